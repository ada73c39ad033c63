"""Linux as Python's standard library does not have it: system calls, netlink, /proc, privileges, descriptors."""
