"""Packet formats: bytes to values and back.

Most modules have `parse` (raises `Malformed`, nothing else), `emit`, and `summary` (one line like tcpdump's, never
raises). After `parse`, all lengths are consistent; a header has bounds (`start`, `end`) in the frame, not copies.
"""
