"""Interfaces of Linux that Python's standard library lacks: system calls, netlink, /proc, privileges, descriptors."""
