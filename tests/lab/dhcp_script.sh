#!/bin/sh
# What busybox udhcpc runs: apply what the server gave.
set -eu
case $1 in
bound | renew)
    ip address add "$ip/$mask" dev "$interface"
    ip link set "$interface" mtu "${mtu:-1500}"
    ip route replace default via "$router" dev "$interface" onlink
    for server in ${dns:-}; do echo "nameserver $server"; done >/etc/resolv.conf
    ;;
esac
