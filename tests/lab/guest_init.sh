#!/bin/busybox sh
# The first process of a virtual machine: makes it usable, then runs what comes over the serial console, for ever.
# A command is one line, a shell script in base64. After its output there is a line with @@ and its status.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp
mount -t devtmpfs none /dev
mount -t proc none /proc
mount -t sysfs none /sys
mount -t tmpfs none /tmp
dmesg -n 1
stty -echo -onlcr
while read -r module; do insmod "/modules/$module.ko"; done </modules/early
ip link set lo up
echo
echo guest-is-ready
while read -r line; do
    echo "$line" | base64 -d >/tmp/command
    sh /tmp/command </dev/null 2>&1
    status=$?
    echo
    echo "@@$status"
done
