"""Formats: bytes to meaning and back, nothing else.

Every module has `parse` (raises `Malformed`, nothing else), `emit`, and `summary` (tcpdump style, never raises).
After `parse` returns, lengths are consistent; headers carry bounds (`start`, `end`) into the frame, not copies.
"""
