"""The error queue of a socket (ip(7), IP_RECVERR): which packet failed, why, and which node reported it."""

from __future__ import annotations

import errno
from socket import AF_INET, AF_INET6, IPPROTO_IP, IPPROTO_IPV6, MSG_ERRQUEUE, SocketType
from struct import Struct
from typing import Final

from sansnet_core import Endpoint, ExtendedError
from sansnet_trio.host.sockaddr import decode
from sansnet_trio.host.sockopts import IP_RECVERR, IPV6_RECVERR, Ancillary, read_ancillary

__all__ = ["ORIGIN_LOCAL", "local_error", "read"]

ORIGIN_LOCAL: Final = 1
"""SO_EE_ORIGIN_LOCAL: the error comes from this host's kernel."""

# struct sock_extended_err (linux/errqueue.h), native order: errno, origin, type, code, pad, info, data.
# struct sockaddr of the offender follows; its family is AF_UNSPEC when there is none.
_EXTENDED_ERROR: Final = Struct("=IBBBxIIH")
_OFFENDER4: Final = 20  # 16 bytes of error, family, port
_OFFENDER6: Final = 24  # 16 bytes of error, family, port, flow label

_UNKNOWN_TTL: Final = 255  # of a local error, or of a stream

_DATA: Final = 1500  # more than any ICMP error quotes
_CONTROL: Final = 512
_LIMIT: Final = 64  # errors per call: an ICMP flood must not block other work; EPOLLERR stays set while more are queued


def local_error(error: OSError) -> ExtendedError:
    """The error of a system call that failed on this host."""
    return ExtendedError(error.errno or errno.EIO, ORIGIN_LOCAL, 0, 0, 0, None)


def read(sock: SocketType, scope: int | None = None) -> list[tuple[Endpoint | None, ExtendedError, bytes]]:
    """Take the queued errors.

    Args:
        sock: the socket.
        scope: as for `sockaddr.decode`.

    Returns:
        For each error the destination of the packet that failed (None for a stream), the error, and as much of the
        packet's payload as is known.
    """
    found: list[tuple[Endpoint | None, ExtendedError, bytes]] = []
    for _ in range(_LIMIT):
        try:
            data, ancillary, _, name = sock.recvmsg(_DATA, _CONTROL, MSG_ERRQUEUE)
        except OSError:  # EAGAIN: empty
            break
        error = _parse(ancillary)
        if error is not None:
            found.append((decode(name, scope) if name else None, error, data))
    return found


def _parse(ancillary: Ancillary) -> ExtendedError | None:
    for level, kind, data in ancillary:
        if (level, kind) in ((IPPROTO_IP, IP_RECVERR), (IPPROTO_IPV6, IPV6_RECVERR)):
            number, origin, icmp_type, code, info, _, family = _EXTENDED_ERROR.unpack_from(data)
            offender = None
            if family == AF_INET:
                offender = data[_OFFENDER4 : _OFFENDER4 + 4]
            elif family == AF_INET6:
                offender = data[_OFFENDER6 : _OFFENDER6 + 16]
            _, ttl, _ = read_ancillary(ancillary)
            return ExtendedError(number, origin, icmp_type, code, info, offender, ttl or _UNKNOWN_TTL)
    return None
