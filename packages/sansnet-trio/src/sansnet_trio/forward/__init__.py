"""Forwarded ports: their rules, their listening sockets, and the direct paths from loopback to loopback."""
