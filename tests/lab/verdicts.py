"""The results that unmodified programs see of each verdict, and the tables of docs/errors.md that say so.

As a program this prints the tables: `python -m tests.lab.verdicts`.
"""

from __future__ import annotations

import errno
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from tests.lab.deciding import FROM_OUTSIDE, PORT, VERDICTS, Case, address_of, inbound_port
from tests.lab.laboratory import HOST4, HOST6, SERVER4, SERVER6, Lab, laboratory
from tests.lab.namespaces import Namespace, running
from tests.lab.observe import expect_quick_timeouts, ping, tcp, udp, udp_plain
from tests.lab.servers import Echo, held

__all__ = [
    "INBOUND",
    "OUTGOING",
    "PROGRAMS",
    "PROGRAMS_OUTSIDE",
    "documented",
    "guest_with_verdicts",
    "inbound_tcp",
    "inbound_udp",
    "servers",
]

OUTGOING: Final = "the verdict"
INBOUND: Final = "the verdict, for a flow from outside"
"""The first cells of the tables."""

_ROOT: Final = Path(__file__).resolve().parents[2]
_PAGE: Final = _ROOT / "docs/errors.md"
_VERSIONS: Final = {"IPv4": 4, "IPv6": 6}

Table = dict[tuple[str, int], dict[str, str]]
"""Verdict and IP version -> program -> result."""


def documented() -> dict[str, Table]:
    """The tables of docs/errors.md, by their first cells."""
    tables: dict[str, Table] = {}
    for lines in re.findall(r"(?:^\|.*\n)+", _PAGE.read_text(), re.MULTILINE):
        head, _, *rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines.splitlines()]
        if head[0] in (OUTGOING, INBOUND):
            tables[head[0]] = {(row[0], _VERSIONS[row[1]]): dict(zip(head[2:], row[2:], strict=True)) for row in rows}
    return tables


@contextmanager
def servers(lab: Lab) -> Iterator[None]:
    """Servers upstream for the flows that are allowed."""
    with ExitStack() as stack:
        for address in (SERVER4, SERVER6):
            stack.enter_context(held(lab.upstream.listen(address, PORT)))
            stack.enter_context(Echo.datagrams(lab.upstream.datagram(address, PORT)))
        yield


@contextmanager
def guest_with_verdicts(lab: Lab) -> Iterator[Namespace]:
    """A guest of `tests.lab.deciding`, with a server on each port from outside."""
    command = lab.host.command("env", f"PYTHONPATH={_ROOT}", sys.executable, "-W", "error", "-m", "tests.lab.deciding")
    with ExitStack() as stack:
        process = stack.enter_context(running(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        assert process.stdout is not None
        guest = Namespace(int(process.stdout.readline()))
        expect_quick_timeouts(guest)
        for case in VERDICTS:
            stack.enter_context(held(guest.listen("::", inbound_port(case))))
            stack.enter_context(Echo.datagrams(guest.datagram("::", inbound_port(case))))
        yield guest
        assert process.poll() is None


def _outgoing(probe: Callable[..., tuple[str, object]]) -> Callable[[Namespace, Case, int], str]:
    def seen(guest: Namespace, case: Case, version: int) -> str:
        return probe(guest, address_of(case, version))[0]

    return seen


PROGRAMS: Final = {
    "UDP": _outgoing(udp),
    "UDP without IP_RECVERR": _outgoing(udp_plain),
    "TCP connect": _outgoing(tcp),
    "ping": _outgoing(ping),
}


def inbound_tcp(outside: Namespace, guest: Namespace, case: Case, version: int) -> str:
    """Connect, and wait for a moment: the host accepts connections before the verdict."""
    with outside.open_socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_STREAM) as sock:
        sock.settimeout(3)
        try:
            sock.connect((HOST4 if version == 4 else HOST6, inbound_port(case)))
            sock.settimeout(1.5)
            return "end of the stream" if sock.recv(1) == b"" else "data"
        except TimeoutError:
            return "connected"
        except OSError as error:
            return f"connected, then {_name(error)}"


def inbound_udp(outside: Namespace, guest: Namespace, case: Case, version: int) -> str:
    """Send a datagram, and wait for its echo."""
    with outside.open_socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1.5)
        try:
            sock.connect((HOST4 if version == 4 else HOST6, inbound_port(case)))
            sock.send(b"anyone?")
            sock.recv(100)
            return "reply"
        except TimeoutError:
            return "silence"
        except OSError as error:
            return _name(error)


def _name(error: OSError) -> str:
    return errno.errorcode[error.errno or 0]


PROGRAMS_OUTSIDE: Final = {"TCP": inbound_tcp, "UDP": inbound_udp}


def _main() -> None:
    with laboratory() as lab, servers(lab), guest_with_verdicts(lab) as guest:
        print("|", " | ".join([OUTGOING, "", *PROGRAMS]), "|")
        print("|---" * (2 + len(PROGRAMS)) + "|")
        for case in VERDICTS:
            for name, version in _VERSIONS.items():
                row = [seen(guest, case, version) for seen in PROGRAMS.values()]
                print("|", " | ".join([f"`{case.text}`", name, *row]), "|", flush=True)
        print()
        print("|", " | ".join([INBOUND, "", *PROGRAMS_OUTSIDE]), "|")
        print("|---" * (2 + len(PROGRAMS_OUTSIDE)) + "|")
        for case in FROM_OUTSIDE:
            for name, version in _VERSIONS.items():
                row = [seen(lab.upstream, guest, case, version) for seen in PROGRAMS_OUTSIDE.values()]
                print("|", " | ".join([f"`{case.text}`", name, *row]), "|", flush=True)


if __name__ == "__main__":
    _main()
