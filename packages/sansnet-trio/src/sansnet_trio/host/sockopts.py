"""Socket options for both address families; Python's socket module lacks some numbers (linux/in.h, in6.h, udp.h)."""

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
    SocketType,
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
PMTUDISC_WANT: Final = 1
PMTUDISC_DO: Final = 2
UDP_SEGMENT: Final = 103
UDP_GRO: Final = 104

MAX_SEGMENTS: Final = 64
"""Most datagrams of one send with UDP_SEGMENT: UDP_MAX_SEGMENTS, which Linux 6.9 raised to 128."""

NO_RUNS: Final = frozenset({errno.EINVAL, errno.EIO, errno.EMSGSIZE, errno.EOPNOTSUPP})
"""Errors by which the kernel refuses a run of datagrams although it may accept them one by one."""

_RECEIVE_BUFFER: Final = 4 << 20
"""Bytes; the kernel grants at most net.core.rmem_max. The default holds some 80 datagrams of 1400 bytes, fewer than
arrive while the driver does not run. The size also bounds how much of a remote's flood is buffered."""

Ancillary: TypeAlias = list[tuple[int, int, bytes]]
"""Control messages, in the form of `recvmsg`: level, type, data."""

_TTL: Final = ((IPPROTO_IP, IP_TTL), (IPPROTO_IPV6, IPV6_HOPLIMIT))
_GRO: Final = (IPPROTO_UDP, UDP_GRO)
_LINGER_NOT: Final = Struct("=ii").pack(1, 0)  # struct linger: on, 0 seconds
_SEGMENT_SIZE: Final = Struct("=H")
_INFO4: Final = Struct("=i4s4x")  # struct in_pktinfo: interface, local address, destination address of the header
_INFO6: Final = Struct("=16si")  # struct in6_pktinfo: local address, interface
_TOS: Final = ((IPPROTO_IP, IP_TOS), (IPPROTO_IPV6, IPV6_TCLASS))


def prepare_accepted(sock: SocketType) -> None:
    """Set the options of every TCP socket. Connections that a listening socket accepts inherit them."""
    sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
    # Otherwise an urgent byte would be missing in the data that the guest receives
    sock.setsockopt(SOL_SOCKET, SO_OOBINLINE, 1)


def prepare_stream(sock: SocketType, family: int) -> None:
    """Set the options of a TCP socket before it connects."""
    prepare_accepted(sock)
    _report_icmp_errors(sock, family, 1)  # it tells which one ended the attempt
    _only_own_family(sock, family)


def reset_when_closed(sock: SocketType) -> None:
    """Make `close` discard the unsent data of a TCP socket and send a RST."""
    sock.setsockopt(SOL_SOCKET, SO_LINGER, _LINGER_NOT)


def forget_icmp_errors(sock: SocketType, family: int) -> None:
    """Clear IP_RECVERR of a connected TCP socket, since with it any ICMP error would end the connection."""
    _report_icmp_errors(sock, family, 0)


def keep_alive(sock: SocketType, idle: int, interval: int, count: int) -> None:
    """Make the kernel probe a TCP socket's peer after `idle` seconds of silence, then every `interval` seconds.

    After `count` probes without an answer the socket fails with ETIMEDOUT. TCP_KEEPIDLE is set last, because a peer
    that has been silent for that long is probed at once.
    """
    sock.setsockopt(IPPROTO_TCP, TCP_KEEPINTVL, interval)
    sock.setsockopt(IPPROTO_TCP, TCP_KEEPCNT, count)
    sock.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
    sock.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, idle)


def prepare_datagram(sock: SocketType, family: int) -> None:
    """Set the options of every UDP socket: multicasts, the error queue, TTL and TOS of received packets, UDP_GRO.

    SO_BROADCAST is not set: broadcasts would reach the host's own sockets, on networks that are not the guest's.
    """
    sock.setsockopt(SOL_SOCKET, SO_RCVBUF, _RECEIVE_BUFFER)
    sock.setsockopt(IPPROTO_UDP, UDP_GRO, 1)
    # The guest's multicasts are for the host's neighbours; the host's own members of the group must not receive them
    _set(sock, family, (IPPROTO_IP, IP_MULTICAST_LOOP), (IPPROTO_IPV6, IPV6_MULTICAST_LOOP), 0)
    prepare_echo(sock, family)


def prepare_mapping(sock: SocketType, family: int) -> None:
    """Set the options of a UDP socket for a guest's socket. It joins no groups, so it receives no multicasts."""
    prepare_datagram(sock, family)
    _set(sock, family, (IPPROTO_IP, IP_MULTICAST_ALL), (IPPROTO_IPV6, IPV6_MULTICAST_ALL), 0)


def prepare_forwarded(sock: SocketType, family: int) -> None:
    """Set the options of a UDP socket for a forwarded port: it also reports the local address of each datagram."""
    prepare_datagram(sock, family)
    _set(sock, family, (IPPROTO_IP, IP_PKTINFO), (IPPROTO_IPV6, IPV6_RECVPKTINFO), 1)


def prepare_listener(sock: SocketType, family: int) -> None:
    """Set the options of a UDP socket on a loopback interface whose datagrams are relayed to another one.

    It also reports the local address of each datagram.
    """
    sock.setsockopt(SOL_SOCKET, SO_RCVBUF, _RECEIVE_BUFFER)
    sock.setsockopt(IPPROTO_UDP, UDP_GRO, 1)
    _set(sock, family, (IPPROTO_IP, IP_PKTINFO), (IPPROTO_IPV6, IPV6_RECVPKTINFO), 1)


def prepare_echo(sock: SocketType, family: int) -> None:
    """Set the options of every ping socket: the error queue, and TTL and TOS of received packets."""
    _report_icmp_errors(sock, family, 1)
    _set(sock, family, (IPPROTO_IP, IP_RECVTTL), (IPPROTO_IPV6, IPV6_RECVHOPLIMIT), 1)
    _set(sock, family, (IPPROTO_IP, IP_RECVTOS), (IPPROTO_IPV6, IPV6_RECVTCLASS), 1)
    _only_own_family(sock, family)


def bind_source(sock: SocketType) -> None:
    """Let `bind` with port 0 set only the address, so that one port can be used for many remotes."""
    sock.setsockopt(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)  # valid for IPv6 sockets too


def set_ttl(sock: SocketType, family: int, ttl: int) -> None:
    """Set TTL or hop limit of the packets sent from now on, unicast and multicast."""
    _set(sock, family, (IPPROTO_IP, IP_TTL), (IPPROTO_IPV6, IPV6_UNICAST_HOPS), ttl)
    _set(sock, family, (IPPROTO_IP, IP_MULTICAST_TTL), (IPPROTO_IPV6, IPV6_MULTICAST_HOPS), ttl)


def set_tos(sock: SocketType, family: int, tos: int) -> None:
    """Set TOS or traffic class of the packets sent from now on."""
    _set(sock, family, *_TOS, tos)


def set_fragment(sock: SocketType, family: int, fragment: bool | None) -> None:
    """Set whether packets sent from now on may be fragmented.

    Args:
        sock: the socket.
        family: the family of the socket.
        fragment: True: by this host and by routers. False: not at all, so that sending one that is larger than the path
            MTU fails with EMSGSIZE. None: by this host only, as in a new socket.
    """
    mode = PMTUDISC_WANT if fragment is None else PMTUDISC_DONT if fragment else PMTUDISC_DO
    _set(sock, family, (IPPROTO_IP, IP_MTU_DISCOVER), (IPPROTO_IPV6, IPV6_MTU_DISCOVER), mode)


def read_ancillary(ancillary: Ancillary) -> tuple[int, int, int]:
    """Segment size (0: not a run), TTL and TOS (0 if unknown) in the control messages of a received packet."""
    segment_size = ttl = tos = 0
    for level, kind, data in ancillary:
        key = level, kind
        value = int.from_bytes(data, byteorder)  # 4 bytes, except IP_TOS: 1 byte
        if key in _TTL:
            ttl = value
        elif key in _TOS:
            tos = value
        elif key == _GRO:
            segment_size = value
    return segment_size, ttl, tos


def read_local(ancillary: Ancillary) -> bytes | None:
    """The host's address that a datagram was sent to, from the control messages of a forwarded socket.

    None for an IPv6 multicast group, since answers cannot have its address as their source. For an IPv4 group the
    kernel reports a unicast address.
    """
    for level, kind, data in ancillary:
        if (level, kind) == (IPPROTO_IP, IP_PKTINFO):
            return data[4:8]
        if (level, kind) == (IPPROTO_IPV6, IPV6_PKTINFO):
            return None if data[0] == 0xFF else data[:16]
    return None


def segment_message(size: int) -> tuple[int, int, bytes]:
    """The control message that makes `sendmsg` send a run of datagrams of `size` bytes each."""
    return IPPROTO_UDP, UDP_SEGMENT, _SEGMENT_SIZE.pack(size)


def source_message(address: bytes) -> tuple[int, int, bytes]:
    """The control message that makes `sendmsg` send from this address of the host."""
    if len(address) == 4:
        return IPPROTO_IP, IP_PKTINFO, _INFO4.pack(0, address)
    return IPPROTO_IPV6, IPV6_PKTINFO, _INFO6.pack(address, 0)


def _report_icmp_errors(sock: SocketType, family: int, value: int) -> None:
    if family == AF_INET:
        sock.setsockopt(IPPROTO_IP, IP_RECVERR, value)
    else:
        sock.setsockopt(IPPROTO_IPV6, IPV6_RECVERR, value)


def _only_own_family(sock: SocketType, family: int) -> None:
    if family != AF_INET:  # an IPv4-mapped address must not reach IPv4 without the core's checks
        sock.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 1)


def _set(sock: SocketType, family: int, v4: tuple[int, int], v6: tuple[int, int], value: int) -> None:
    sock.setsockopt(*(v4 if family == AF_INET else v6), value)
