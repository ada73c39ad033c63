"""A network stack that answers ARP and pings, and sends pings: Ethernet frames in, Ethernet frames out."""

from __future__ import annotations

from tiny_stack.stack import Reply, Stack

__all__ = ["Reply", "Stack"]
