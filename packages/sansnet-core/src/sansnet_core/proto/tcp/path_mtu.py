"""Path MTU discovery for the segments to the guest (RFC 1191, RFC 8201).

Theory of operation. A guest may route for others, as for a nested namespace or a tunnel, over a link with a smaller
MTU. Its router drops the segments that are too big, and reports the MTU by ICMP. The connection then takes the terms of
a guest whose SYN has a smaller MSS, and sends again what is in flight.

Anything in the guest can forge such a report (RFC 5927). So it counts only if it quotes data in flight, it can only
make segments smaller, and they never become tiny (`MIN_MSS`). The smaller size lasts as long as the connection.
"""

from __future__ import annotations

from typing import Final

from sansnet_core.proto.tcp.flow import TcpFlow
from sansnet_core.proto.tcp.handshake import HEADERS, MIN_MSS
from sansnet_core.wire.tcp import TcpOptions, diff

__all__ = ["too_big"]

UNKNOWN_MTU4: Final = 552
"""Bytes, in place of the 0 of routers older than RFC 1191 (Linux's min_pmtu)."""
MIN_MTU6: Final = 1280
"""Bytes. A report of a smaller MTU is discarded (RFC 8201, 4)."""


def too_big(flow: TcpFlow, sequence: int, mtu: int) -> bool:
    """Take a report that a segment was too big for a link in the guest.

    Args:
        flow: the connection.
        sequence: the sequence number of the segment.
        mtu: of the link, in bytes.

    Returns:
        Whether the report is credible.
    """
    sender, terms = flow.sender, flow.terms
    buffer = sender.buffer
    if not 0 <= diff(sequence, sender.una) < buffer.held - buffer.unsent:
        return False
    version = 4 if len(flow.key) == 12 else 6
    if version == 4:
        mtu = mtu or UNKNOWN_MTU4
    elif mtu < MIN_MTU6:
        return False
    mss = max(mtu - HEADERS[version], MIN_MSS)
    if mss < terms.mss:  # else it is about another segment of those that were too big
        scale = None if terms.own_scale is None else terms.scale
        flow.shrink(flow.shared.negotiation.terms(version, TcpOptions(mss, scale, terms.sack, ())))
    return True
