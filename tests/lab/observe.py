"""The errors that an unmodified program gets from an unreachable address, on the host and in a guest.

As a program this prints the table of all faults: `python -m tests.lab.observe`.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from tests.lab.laboratory import laboratory
from tests.lab.namespaces import Namespace
from tests.lab.routers import FAULTS, HOST_FAULTS, Fault, routers

__all__ = [
    "CASES",
    "PROBES",
    "Report",
    "Row",
    "Seen",
    "expect_quick_timeouts",
    "observe",
    "ping",
    "tcp",
    "udp",
    "udp_plain",
]

CLOSED_PORT: Final = 9
_PATIENCE: Final = 1.1
"""Seconds to wait for an answer; see `Fault.attempts`."""
_RECEIVE_ERRORS: Final = {
    socket.AF_INET: (socket.IPPROTO_IP, 11),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 25),
}
"""IP_RECVERR and IPV6_RECVERR."""


class Report(NamedTuple):
    """`struct sock_extended_err` and its offender, as text."""

    errno: str
    origin: int
    type: int
    code: int
    info: int
    offender: str


class Seen(NamedTuple):
    """The result of a program: the name of an errno or `silence`, and what the error queue held besides."""

    errno: str
    report: Report | None = None


SILENCE: Final = Seen("silence")

CLOSED: Final = Fault("port closed", 200, "-", "-")
"""An address that answers, with a port that does not."""

CASES: Final = [
    (where, fault, version)
    for where, faults in (("remote host", [CLOSED]), ("router", FAULTS), ("host", HOST_FAULTS))
    for fault in faults
    for version, rule in ((4, fault.rule4), (6, fault.rule6))
    if rule
]
"""The node that rejects a packet, how, and the IP version."""


def expect_quick_timeouts(namespace: Namespace) -> None:
    """Let TCP give up after 3 s."""
    namespace.shell("echo 1 >/proc/sys/net/ipv4/tcp_syn_retries")


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _report(sock: socket.socket) -> Report | None:
    sock.setblocking(False)
    try:
        _, ancillary, _, _ = sock.recvmsg(2000, 512, socket.MSG_ERRQUEUE)
    except BlockingIOError:
        return None
    for level, kind, data in ancillary:
        if (level, kind) == _RECEIVE_ERRORS[_family_of(sock)]:
            number, origin, icmp_type, code, info, family = struct.unpack_from("=IBBBxI4xH", data)
            offender = ""
            if family == socket.AF_INET:
                offender = socket.inet_ntop(socket.AF_INET, data[20:24])
            elif family == socket.AF_INET6:
                offender = socket.inet_ntop(socket.AF_INET6, data[24:40])
            return Report(errno.errorcode[number], origin, icmp_type, code, info, offender)
    return None


def _family_of(sock: socket.socket) -> socket.AddressFamily:
    return socket.AddressFamily(sock.family)


def _ask(sock: socket.socket, data: bytes, patience: float) -> Seen | None:
    """Send, and wait for an answer or an error; None if there is neither in time."""
    sock.settimeout(patience)
    try:
        sock.send(data)
        sock.recv(2000)
    except TimeoutError:
        return None
    except OSError as error:
        return Seen(errno.errorcode[error.errno or 0], _report(sock))
    return Seen("reply")


def _datagrams(namespace: Namespace, address: str, data: bytes, protocol: int, *, errors: bool, attempts: int) -> Seen:
    def made() -> socket.socket:
        return socket.socket(_family(address), socket.SOCK_DGRAM, protocol)

    with namespace.call(made) as sock:
        if errors:
            sock.setsockopt(*_RECEIVE_ERRORS[_family(address)], 1)
        try:
            sock.connect((address, CLOSED_PORT if protocol == socket.IPPROTO_UDP else 0))
        except OSError as error:
            return Seen(errno.errorcode[error.errno or 0])
        for _ in range(attempts):
            if seen := _ask(sock, data, _PATIENCE):
                return seen
    return SILENCE


def udp(namespace: Namespace, address: str, *, attempts: int = 1) -> Seen:
    """A connected UDP socket with an error queue."""
    return _datagrams(namespace, address, b"anyone?", socket.IPPROTO_UDP, errors=True, attempts=attempts)


def udp_plain(namespace: Namespace, address: str, *, attempts: int = 1) -> Seen:
    """A connected UDP socket without an error queue, which gets final errors only."""
    return _datagrams(namespace, address, b"anyone?", socket.IPPROTO_UDP, errors=False, attempts=attempts)


def ping(namespace: Namespace, address: str, *, attempts: int = 1) -> Seen:
    """A ping socket with an error queue."""
    version4 = _family(address) == socket.AF_INET
    request = struct.pack("!BBHHH", 8 if version4 else 128, 0, 0, 0, 1) + b"anyone?"
    protocol = socket.IPPROTO_ICMP if version4 else socket.IPPROTO_ICMPV6
    return _datagrams(namespace, address, request, protocol, errors=True, attempts=attempts)


def tcp(namespace: Namespace, address: str, *, attempts: int = 1) -> Seen:
    """A TCP connect."""
    with namespace.open_socket(_family(address), socket.SOCK_STREAM) as sock:
        try:
            sock.settimeout(None)
            sock.connect((address, CLOSED_PORT))
        except OSError as error:
            return Seen(errno.errorcode[error.errno or 0])
    return Seen("reply")


PROBES: Final[dict[str, Callable[..., Seen]]] = {
    "UDP": udp,
    "UDP without IP_RECVERR": udp_plain,
    "TCP": tcp,
    "ping": ping,
}


class Row(NamedTuple):
    """One line of the table."""

    where: str
    fault: str
    version: int
    program: str
    host: Seen
    guest: Seen


def observe(host: Namespace, guest: Namespace, where: str, fault: Fault, version: int, program: str) -> Row:
    """The results of one program, on the host and in a guest at the same time."""
    probe, address = PROBES[program], fault.ipv4 if version == 4 else fault.ipv6
    with ThreadPoolExecutor() as pool:
        both = [pool.submit(probe, place, address, attempts=fault.attempts) for place in (host, guest)]
        return Row(where, fault.name, version, program, *(one.result() for one in both))


def _main() -> None:
    print("| who | what | | program | on the host | in a guest |")
    print("|---|---|---|---|---|---|")
    with laboratory() as lab, routers(lab), lab.guest() as guest:
        expect_quick_timeouts(lab.host)
        expect_quick_timeouts(guest)
        for where, fault, version in CASES:
            for program in ["TCP"] if fault.tcp else PROBES:
                row = observe(lab.host, guest, where, fault, version, program)
                print(f"| {where} | {fault.name} | IPv{version} | {program} | {row.host.errno} | {row.guest.errno} |")


if __name__ == "__main__":
    _main()
