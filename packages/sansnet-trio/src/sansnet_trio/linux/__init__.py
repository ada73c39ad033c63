"""What Python's standard library lacks of Linux: system calls, netlink, /proc, privileges, descriptors."""
