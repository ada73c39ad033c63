"""The part that all dialogues with proxies share."""

from __future__ import annotations

from errno import EPROTO
from typing import NamedTuple

from sansnet_core.mypyc import mypyc_attr

__all__ = ["Destination", "Handshake"]


class Destination(NamedTuple):
    """The destination that a proxy is asked for.

    Attributes:
        host: a host name in canonical form, or an address of 4 or 16 bytes.
        port: 1 to 65535; 0 where it has no meaning.
    """

    host: str | bytes
    port: int


@mypyc_attr(allow_interpreted_subclasses=True)
class Handshake:
    """A dialogue with a proxy. The caller connects to the proxy, sends the bytes of `start`, and passes on its answers.

    Attributes:
        needed: the number of bytes to read next. Never more than belong to the dialogue, so that none of the
            destination's bytes is read. 0 once it is done.
        done: whether it is over.
        errno: why the proxy did not connect; 0 if it has, or if the dialogue is not over.
    """

    __slots__ = ("_buffer", "done", "errno", "needed")

    def __init__(self) -> None:
        self.needed = 0
        self.done = False
        self.errno = 0
        self._buffer = b""

    def start(self) -> bytes:
        """The first bytes to send."""
        raise NotImplementedError

    def receive(self, data: bytes) -> bytes:
        """Take bytes that were read, at most `needed`.

        Returns:
            The bytes to send.
        """
        if self.done or not data:
            return b""
        self._buffer += data
        self.needed -= len(data)
        return self.read(self._buffer)

    def read(self, buffer: bytes) -> bytes:
        """For subclasses: read all bytes since `expect`; give those to send."""
        raise NotImplementedError

    def more(self, size: int) -> bytes:
        """For subclasses: wait for more bytes of the same message, until there are `size` of them; nothing to send."""
        self.needed = size - len(self._buffer)
        return b""

    def expect(self, size: int) -> None:
        """For subclasses: wait for another message, whose first `size` bytes are needed."""
        self._buffer = b""
        self.needed = size

    def end(self, errno: int = 0) -> bytes:
        """For subclasses: the dialogue is over; nothing to send."""
        self._buffer = b""
        self.needed = 0
        self.done = True
        self.errno = errno
        return b""

    def break_off(self) -> bytes:
        """For subclasses: the proxy does not keep to the protocol; nothing to send."""
        return self.end(EPROTO)
