"""Sockets of the host, one module for each kind."""
