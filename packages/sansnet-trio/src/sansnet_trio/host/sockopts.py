"""Socket options by address family, with the numbers that Python's socket module lacks (linux/in.h, in6.h, udp.h)."""

from __future__ import annotations

import errno
from socket import (
    AF_INET,
    IP_MULTICAST_LOOP,
    IP_MULTICAST_TTL,
    IP_TOS,
    IP_TTL,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPV6_HOPLIMIT,
    IPV6_MULTICAST_HOPS,
    IPV6_MULTICAST_LOOP,
    IPV6_PKTINFO,
    IPV6_RECVHOPLIMIT,
    IPV6_RECVPKTINFO,
    IPV6_RECVTCLASS,
    IPV6_TCLASS,
    IPV6_UNICAST_HOPS,
    IPV6_V6ONLY,
    SO_KEEPALIVE,
    SO_LINGER,
    SO_OOBINLINE,
    SO_RCVBUF,
    SOL_SOCKET,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_NODELAY,
    socket,
)
from struct import Struct
from sys import byteorder
from typing import Final, TypeAlias

__all__ = [
    "IP_FREEBIND",
    "MAX_SEGMENTS",
    "NO_RUNS",
    "UDP_GRO",
    "UDP_SEGMENT",
    "Ancillary",
    "bind_source",
    "forget_icmp_errors",
    "keep_alive",
    "prepare_accepted",
    "prepare_datagram",
    "prepare_listener",
    "prepare_echo",
    "prepare_forwarded",
    "prepare_mapping",
    "prepare_stream",
    "read_ancillary",
    "read_local",
    "reset_when_closed",
    "segment_message",
    "set_fragment",
    "set_tos",
    "set_ttl",
    "source_message",
]

IP_PKTINFO: Final = 8
IP_FREEBIND: Final = 15
IP_MTU_DISCOVER: Final = 10
IP_RECVERR: Final = 11
IP_RECVTTL: Final = 12
IP_RECVTOS: Final = 13
IP_BIND_ADDRESS_NO_PORT: Final = 24
IPV6_MTU_DISCOVER: Final = 23
IPV6_RECVERR: Final = 25
IP_MULTICAST_ALL: Final = 49
IPV6_MULTICAST_ALL: Final = 29
PMTUDISC_DONT: Final = 0
PMTUDISC_DO: Final = 2
UDP_SEGMENT: Final = 103
UDP_GRO: Final = 104

MAX_SEGMENTS: Final = 64
"""Datagrams of one send with UDP_SEGMENT: UDP_MAX_SEGMENTS, raised to 128 in Linux 6.9."""

NO_RUNS: Final = frozenset({errno.EINVAL, errno.EIO, errno.EMSGSIZE, errno.EOPNOTSUPP})
"""Send errors by which the kernel refuses a run of datagrams that it may take one by one."""

_RECEIVE_BUFFER: Final = 4 << 20
"""Bytes, of which the kernel grants at most net.core.rmem_max. Its default holds some 80 datagrams of 1400 bytes:
fewer than come while the pump is off the processor. It also tells how far a remote's flood is taken in."""

Ancillary: TypeAlias = list[tuple[int, int, bytes]]
"""Control messages, as `recvmsg` has them."""

_TTL: Final = ((IPPROTO_IP, IP_TTL), (IPPROTO_IPV6, IPV6_HOPLIMIT))
_GRO: Final = (IPPROTO_UDP, UDP_GRO)
_LINGER_NOT: Final = Struct("=ii").pack(1, 0)  # struct linger: on, 0 seconds
_SEGMENT_SIZE: Final = Struct("=H")
_INFO4: Final = Struct("=i4s4x")  # struct in_pktinfo: interface, the host's address, destination in the header
_INFO6: Final = Struct("=16si")  # struct in6_pktinfo: the host's address, interface
_TOS: Final = ((IPPROTO_IP, IP_TOS), (IPPROTO_IPV6, IPV6_TCLASS))


def prepare_accepted(sock: socket) -> None:
    """What every TCP socket gets, also one that was accepted."""
    sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
    # Else a byte that is marked urgent leaves a hole in what the guest receives.
    sock.setsockopt(SOL_SOCKET, SO_OOBINLINE, 1)


def prepare_stream(sock: socket, family: int) -> None:
    """What every TCP socket gets before it connects."""
    prepare_accepted(sock)
    # Tells which ICMP error ended the attempt. See `forget_icmp_errors`.
    _set(sock, family, (IPPROTO_IP, IP_RECVERR), (IPPROTO_IPV6, IPV6_RECVERR), 1)
    _only_own_family(sock, family)


def reset_when_closed(sock: socket) -> None:
    """Have a TCP socket forget what was not sent, and say RST when it is closed."""
    sock.setsockopt(SOL_SOCKET, SO_LINGER, _LINGER_NOT)


def forget_icmp_errors(sock: socket, family: int) -> None:
    """For a TCP socket that is connected: with IP_RECVERR, every passing ICMP error would end the connection."""
    _set(sock, family, (IPPROTO_IP, IP_RECVERR), (IPPROTO_IPV6, IPV6_RECVERR), 0)


def keep_alive(sock: socket, idle: int, interval: int, count: int) -> None:
    """Have the kernel probe a TCP socket's peer after seconds of silence, then every `interval` seconds.

    After `count` probes without an answer the socket fails with ETIMEDOUT. One that was silent for that long already is
    probed at once, which is why TCP_KEEPIDLE comes last.
    """
    sock.setsockopt(IPPROTO_TCP, TCP_KEEPINTVL, interval)
    sock.setsockopt(IPPROTO_TCP, TCP_KEEPCNT, count)
    sock.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
    sock.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, idle)


def prepare_datagram(sock: socket, family: int) -> None:
    """What every UDP socket gets: groups, the error queue, TTL and TOS of what it receives, and UDP_GRO.

    Not SO_BROADCAST: the host's own sockets would hear what is broadcast, on networks that are none of the guest's.
    """
    sock.setsockopt(SOL_SOCKET, SO_RCVBUF, _RECEIVE_BUFFER)
    sock.setsockopt(IPPROTO_UDP, UDP_GRO, 1)
    # A guest's neighbours are the host's, not the host itself: what listens here for a group does not hear the guest.
    _set(sock, family, (IPPROTO_IP, IP_MULTICAST_LOOP), (IPPROTO_IPV6, IPV6_MULTICAST_LOOP), 0)
    prepare_echo(sock, family)


def prepare_mapping(sock: socket, family: int) -> None:
    """What a UDP socket gets that a guest's one stands for: what is sent to groups is not for it, as it joined none."""
    prepare_datagram(sock, family)
    _set(sock, family, (IPPROTO_IP, IP_MULTICAST_ALL), (IPPROTO_IPV6, IPV6_MULTICAST_ALL), 0)


def prepare_forwarded(sock: socket, family: int) -> None:
    """What a UDP socket gets that anybody may send to: also to be told to which of the host's addresses that was."""
    prepare_datagram(sock, family)
    _set(sock, family, (IPPROTO_IP, IP_PKTINFO), (IPPROTO_IPV6, IPV6_RECVPKTINFO), 1)


def prepare_listener(sock: socket, family: int) -> None:
    """What a UDP socket on loopback gets whose datagrams go to another loopback: also to be told to which address."""
    sock.setsockopt(SOL_SOCKET, SO_RCVBUF, _RECEIVE_BUFFER)
    sock.setsockopt(IPPROTO_UDP, UDP_GRO, 1)
    _set(sock, family, (IPPROTO_IP, IP_PKTINFO), (IPPROTO_IPV6, IPV6_RECVPKTINFO), 1)


def prepare_echo(sock: socket, family: int) -> None:
    """What every ping socket gets: the error queue, and TTL and TOS of what it receives."""
    _set(sock, family, (IPPROTO_IP, IP_RECVERR), (IPPROTO_IPV6, IPV6_RECVERR), 1)
    _set(sock, family, (IPPROTO_IP, IP_RECVTTL), (IPPROTO_IPV6, IPV6_RECVHOPLIMIT), 1)
    _set(sock, family, (IPPROTO_IP, IP_RECVTOS), (IPPROTO_IPV6, IPV6_RECVTCLASS), 1)
    _only_own_family(sock, family)


def bind_source(sock: socket) -> None:
    """Let `bind` with port 0 fix the address alone, so that one port may serve many remotes."""
    sock.setsockopt(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)  # serves IPv6 sockets too


def set_ttl(sock: socket, family: int, ttl: int) -> None:
    """TTL or hop limit of what is sent from now on, to one or to many."""
    _set(sock, family, (IPPROTO_IP, IP_TTL), (IPPROTO_IPV6, IPV6_UNICAST_HOPS), ttl)
    _set(sock, family, (IPPROTO_IP, IP_MULTICAST_TTL), (IPPROTO_IPV6, IPV6_MULTICAST_HOPS), ttl)


def set_tos(sock: socket, family: int, tos: int) -> None:
    """TOS or traffic class of what is sent from now on."""
    _set(sock, family, *_TOS, tos)


def set_fragment(sock: socket, family: int, fragment: bool) -> None:
    """Whether what is sent from now on may be cut into fragments; if not, EMSGSIZE tells what is too large."""
    mode = PMTUDISC_DONT if fragment else PMTUDISC_DO
    _set(sock, family, (IPPROTO_IP, IP_MTU_DISCOVER), (IPPROTO_IPV6, IPV6_MTU_DISCOVER), mode)


def read_ancillary(ancillary: Ancillary) -> tuple[int, int, int]:
    """Segment size (0: not a run), TTL and TOS (0 if unknown) of what `recvmsg` returned."""
    segment_size = ttl = tos = 0
    for level, kind, data in ancillary:
        key = level, kind
        value = int.from_bytes(data, byteorder)  # of 4 bytes, but for IP_TOS, which is 1 byte
        if key in _TTL:
            ttl = value
        elif key in _TOS:
            tos = value
        elif key == _GRO:
            segment_size = value
    return segment_size, ttl, tos


def read_local(ancillary: Ancillary) -> bytes | None:
    """The host's address that a datagram was sent to, as `recvmsg` of a forwarded socket tells it.

    None if that is a group, from whose address nobody can answer; of IPv4 the kernel tells a unicast address even then.
    """
    for level, kind, data in ancillary:
        if (level, kind) == (IPPROTO_IP, IP_PKTINFO):
            return data[4:8]
        if (level, kind) == (IPPROTO_IPV6, IPV6_PKTINFO):
            return None if data[0] == 0xFF else data[:16]
    return None


def segment_message(size: int) -> tuple[int, int, bytes]:
    """The control message by which `sendmsg` sends a run of datagrams of some bytes each."""
    return IPPROTO_UDP, UDP_SEGMENT, _SEGMENT_SIZE.pack(size)


def source_message(address: bytes) -> tuple[int, int, bytes]:
    """The control message by which `sendmsg` sends from an address of the host's."""
    if len(address) == 4:
        return IPPROTO_IP, IP_PKTINFO, _INFO4.pack(0, address)
    return IPPROTO_IPV6, IPV6_PKTINFO, _INFO6.pack(address, 0)


def _only_own_family(sock: socket, family: int) -> None:
    if family != AF_INET:  # a v4-mapped address must not reach IPv4 behind the core's back
        sock.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 1)


def _set(sock: socket, family: int, v4: tuple[int, int], v6: tuple[int, int], value: int) -> None:
    sock.setsockopt(*(v4 if family == AF_INET else v6), value)
