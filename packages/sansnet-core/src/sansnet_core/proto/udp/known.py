"""The short cut for datagrams of known flows.

Theory of operation. `KnownFlows.receive` finds the flow from the bytes of a frame, with one look-up, in place of the
modules `frames`, `ipv4` or `ipv6`, and of `Udp.receive`. From there on, the way is the same. A frame is taken
completely or not at all: one that is malformed, a fragment, a run of datagrams, a question to a name server, or belongs
to no flow is left to the ordinary path before anything has changed. So no rule of the protocol is only here, and the
network works the same without this module; a property test runs both with the same inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Final

from sansnet_core.context import Context
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.orders import Buffer
from sansnet_core.proto.udp.flow import Flow
from sansnet_core.wire.ip import UDP
from sansnet_core.wire.ipv4 import DONT_FRAGMENT, FRAGMENTED
from sansnet_core.wire.virtio_net import GSO_UDP_L4, HEADER_SIZE

__all__ = ["KnownFlows"]

# From the TOS on: TOS, length, flags and offset, TTL, addresses with ports, length of the datagram
_IPV4: Final = Struct("!BH2xHB3x12sH")
# From the version on: version and traffic class, length, hop limit, addresses with ports, length, checksum
_IPV6: Final = Struct("!IHxB36sHH")
_DNS_PORT: Final = b"\0\x35"


@mypyc_attr(allow_interpreted_subclasses=True)
class KnownFlows:
    """Takes the datagrams of known flows.

    Args:
        context: of the network.
        flows: key of a flow -> flow.
        send: sends a datagram of a flow; see `Udp`.
    """

    __slots__ = ("_expected", "_flows", "_max_size", "_send", "_start")

    def __init__(
        self,
        context: Context,
        flows: dict[bytes, Flow],
        send: Callable[[Flow, Buffer, int, int, int, bool], None],
    ) -> None:
        link = context.config.link
        self._expected = context.expected
        self._flows = flows
        self._send = send
        self._start = HEADER_SIZE if link.vnet_header else 0
        self._max_size = self._start + link.max_frame_size

    def receive(self, frame: Buffer) -> bool:
        """Take a frame if it is a well-formed datagram of a flow.

        Returns:
            Whether it was taken. If not, nothing has changed.
        """
        if type(frame) is not bytes and (type(frame) is not memoryview or not frame.readonly):
            return False
        start = self._start
        size = len(frame)
        if not start + 42 <= size <= self._max_size:
            return False
        expected = self._expected
        if expected.stale:
            expected.refresh()
        if frame[start : start + 15] == expected.head4:
            if frame[start + 23] != UDP:
                return False
            tos, length, fragment, ttl, key, count = _IPV4.unpack_from(frame, start + 15)
            begin, limit = start + 42, start + 14 + length
            may_fragment = not fragment & DONT_FRAGMENT
            if (
                fragment & FRAGMENTED
                or int.from_bytes(frame[start + 14 : start + 34], "big") % 65535
                or key[:4] != expected.guest4
            ):
                return False
        elif frame[start : start + 14] == expected.ethernet6:
            if frame[start + 20] != UDP or size < start + 62:
                return False
            first, length, ttl, key, count, checksum = _IPV6.unpack_from(frame, start + 14)
            begin, limit = start + 62, start + 54 + length
            tos, may_fragment = first >> 20 & 0xFF, False
            if first >> 28 != 6 or key[:16] != expected.guest6 or not checksum:
                return False
        else:
            return False
        if start and frame[1] == GSO_UDP_L4:
            return False
        end = begin - 8 + count
        flow = self._flows.get(key)
        if flow is None or flow.outdated or not begin <= end <= limit <= size or not ttl or key[-2:] == _DNS_PORT:
            return False
        self._send(flow, frame[begin:end], 0, ttl, tos, may_fragment)
        return True
