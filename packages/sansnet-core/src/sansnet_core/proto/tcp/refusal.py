"""The answer to a SYN that opens no connection."""

from __future__ import annotations

from errno import ECONNREFUSED, ECONNRESET, EHOSTUNREACH, EMSGSIZE
from typing import Final

from sansnet_core.context import Context
from sansnet_core.egress import FlowHeaders
from sansnet_core.orders import ORIGIN_LOCAL, Endpoint, ExtendedError
from sansnet_core.proto.icmp_errors import IcmpErrors
from sansnet_core.wire.ip import TCP
from sansnet_core.wire.tcp import ACK, RST, SYN, add, emit

__all__ = ["local_error", "refuse_syn"]

_RESETS: Final = (ECONNREFUSED, ECONNRESET)


def local_error(errno: int) -> ExtendedError:
    """A failure that the host's own kernel could report."""
    return ExtendedError(errno, ORIGIN_LOCAL, 0, 0, 0, None)


def refuse_syn(
    context: Context,
    icmp_errors: IcmpErrors,
    guest: Endpoint,
    remote: Endpoint,
    host: bytes,
    irs: int,
    error: ExtendedError | None,
) -> None:
    """Answer a SYN so that the guest's connect() fails with the errno of `error`.

    That is RST for a refusal (RFC 9293, 3.10.7.1), and an ICMP error about the SYN for everything else.

    Args:
        context: of the network.
        icmp_errors: of the network.
        guest: source of the SYN.
        remote: its destination.
        host: the address of the host's side that it stands for.
        irs: its sequence number.
        error: why; None for no answer.
    """
    if error is None:
        return
    if error.errno in _RESETS:
        if not context.address_map.is_node(remote.address):
            return  # it cannot be the source of a packet
        FlowHeaders(context.egress, remote, guest, TCP).tcp(0, add(irs, 1), RST | ACK, 0, b"", b"", 0)
        return
    if error.errno == EMSGSIZE:
        error = local_error(EHOSTUNREACH)  # "too big" ends no connect, and the guest would record a wrong MTU
    syn = emit(guest.address, remote.address, guest.port, remote.port, irs, 0, SYN, 0)
    icmp_errors.host_failed(error, host, guest.address, remote.address, TCP, syn)
