"""A proxy of the host's network, which understands what a network asks it."""

from __future__ import annotations

from typing import Final

from sansnet_core.policy import ProxyKind

__all__ = ["ProxyEnd"]

_SIZES: Final = {1: 4, 4: 16}


class ProxyEnd:
    """One connection to a proxy.

    Args:
        kind: its protocol.

    Attributes:
        replies: what it says, not read yet.
        done: the dialogue is over, and what follows belongs to the two ends.
    """

    def __init__(self, kind: ProxyKind) -> None:
        self._kind = kind
        self._step: str = "method"
        self._buffer = b""
        self.replies = bytearray()
        self.done = False

    def receive(self, data: bytes) -> bytes:
        """Take bytes from the network; those behind the dialogue."""
        if self.done:
            return data
        self._buffer += data
        while size := self._message():
            message, self._buffer = self._buffer[:size], self._buffer[size:]
            if self._answer(message):
                self.done = True
                return self._buffer
        return b""

    def _message(self) -> int:
        """The size of the message at the head of the buffer; 0 if it is not whole."""
        data = self._buffer
        if self._kind is ProxyKind.HTTP:
            return data.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in data else 0
        if len(data) < 5 and not (self._step == "method" and len(data) >= 3):
            return 0
        if self._step == "method":
            size = 2 + data[1]
        elif self._step == "user":
            size = 2 + data[1]
            size = size + 1 + data[size] if len(data) > size else 1 << 20
        else:
            size = 6 + (1 + data[4] if data[3] == 3 else _SIZES[data[3]])
        return size if len(data) >= size else 0

    def _answer(self, message: bytes) -> bool:
        """Answer a message; whether the dialogue is over."""
        if self._kind is ProxyKind.HTTP:
            self.replies += b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n"
            return True
        if self._step == "method":
            with_user = 2 in message[2:]
            self.replies += b"\5\2" if with_user else b"\5\0"
            self._step = "user" if with_user else "request"
        elif self._step == "user":
            self.replies += b"\1\0"
            self._step = "request"
        else:
            self.replies += b"\5\0\0\1" + bytes(4) + b"\4\x38"
            return True
        return False
