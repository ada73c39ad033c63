"""One request at a time of a vhost-user connection: it is read in pieces, worked on, and answered.

The driver reads no more bytes than `missing` says. Descriptors travel with the first byte of a message, and one read of
two messages would mix their descriptors.
"""

from __future__ import annotations

from collections.abc import Sequence

from sansnet_core.vhost import messages
from sansnet_core.vhost.faults import Fault, VhostViolation
from sansnet_core.vhost.messages import Header

__all__ = ["Exchange"]


class Exchange:
    """The current request, and the replies that wait to be written.

    Attributes:
        payload: the bytes of the payload that have arrived.
        fds: the descriptors that came with the request and are not used yet.
        acknowledges: the front-end negotiated REPLY_ACK: it may ask for an acknowledgment of any request.
    """

    __slots__ = ("_header", "_replies", "acknowledges", "fds", "payload")

    def __init__(self) -> None:
        self.payload = b""  # until the header is complete: the bytes of the header
        self.fds: list[int] = []
        self.acknowledges = False
        self._header: Header | None = None
        self._replies: list[bytes] = []

    def missing(self) -> int:
        """How many bytes of the header have not arrived; once it is complete, how many bytes of the payload."""
        return (messages.HEADER_SIZE if self._header is None else self._header.size) - len(self.payload)

    def add(self, data: bytes, fds: Sequence[int]) -> None:
        """Add bytes, at most as many as are missing, and the descriptors that came with them."""
        self.fds += fds
        self.payload += data

    def request(self) -> Header | None:
        """The header of the request, once all of it has arrived; None before.

        Raises:
            VhostViolation: FD_COUNT, HEADER or MESSAGE_SIZE.
        """
        if len(self.fds) > messages.MAX_FDS:
            raise VhostViolation(Fault.FD_COUNT)
        if self.missing():
            return None
        if self._header is None:
            self._header = messages.parse_header(self.payload)
            self.payload = b""
            if self._header.size:
                return None
        return self._header

    def take_fds(self) -> tuple[int, ...]:
        """The descriptors that are not used yet; the caller uses or closes them."""
        fds = tuple(self.fds)
        self.fds.clear()
        return fds

    def reply(self, payload: bytes) -> None:
        """Answer the request with the reply that it defines."""
        assert self._header is not None
        self._replies.append(messages.emit(self._header.request, payload))

    def acknowledge(self, result: int) -> None:
        """Answer a request that defines no reply, if the front-end waits for an answer.

        Args:
            result: 0 for success.
        """
        if self._header is not None and self._header.needs_reply and self.acknowledges:
            self.reply(messages.U64.pack(result))

    def finish(self) -> None:
        """The request is done. The next one begins with its header."""
        self._header = None
        self.payload = b""

    def take_replies(self) -> list[bytes]:
        """The messages for the front-end that were not taken yet."""
        replies, self._replies = self._replies, []
        return replies
