"""Forwarded ports: which there are, the sockets that listen for them, and the direct paths between loopbacks."""
