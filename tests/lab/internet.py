"""A laboratory with a small Internet upstream: hosts with public addresses, a name server that may lie, and eyes.

Every address of the Internet is one of upstream's. `Internet.reached` tells whether a packet for an address has come
from the host, whichever way it took: the tests look at the wire and not at the answers that a guest gets.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import trustme

from tests.lab.laboratory import GATEWAY4, GATEWAY6, Lab, laboratory
from tests.lab.namespaces import Namespace, eventually
from tests.lab.servers import answered, served

__all__ = ["ADDRESSES", "RESOLVER4", "RESOLVER6", "Internet", "LyingServer", "internet"]

RESOLVER4: Final = "93.184.0.53"
"""The name server in the host's resolv.conf."""
RESOLVER6: Final = "2a00:7::53"

ADDRESSES: Final[Mapping[str, tuple[str, str]]] = {
    "resolver": (RESOLVER4, RESOLVER6),
    "allowed": ("93.184.0.10", "2a00:7::10"),
    "other": ("93.184.0.20", "2a00:7::20"),
    "shared": ("93.184.0.30", "2a00:7::30"),
    "evil": ("93.184.0.66", "2a00:7::66"),
    "private": ("10.66.0.1", "fd66::1"),
    "metadata": ("169.254.169.254", "fd00:ec2::254"),
}
"""Name of a host of the Internet -> its addresses."""

CARRIED: Final = ("64:ff9b::", "2002:", "2001:0:")
_TCP_PORTS: Final = (7, 22, 53, 80, 443, 853, 8080)
_UDP_PORTS: Final = (7, 443, 853, 5353, 5355, 137)


class LyingServer:
    """A name server whose answers are functions, over UDP and TCP.

    Args:
        zone: (name, type) -> records as text, or a function that makes them anew for each question.

    Attributes:
        questions: names asked for so far, as text without the last dot, in lower case.
        ttl: of all records, in seconds.
    """

    def __init__(self, zone: Mapping[tuple[str, str], list[str] | Callable[[], list[str]]]) -> None:
        self.zone = dict(zone)
        self.questions: list[str] = []
        self.ttl = 60

    @contextmanager
    def on(self, namespace: Namespace, *addresses: str) -> Iterator[None]:
        """Serve port 53 of these addresses of a namespace."""
        with ExitStack() as stack:
            for address in addresses:
                stack.enter_context(answered(namespace.datagram(address, 53), self._answer))
                stack.enter_context(served(namespace.listen(address, 53), self._stream))
            yield

    def _answer(self, data: bytes) -> bytes:
        query = dns.message.from_wire(data)
        reply = dns.message.make_response(query, recursion_available=True)
        question = query.question[0]
        asked = question.name.to_text(omit_final_dot=True).lower()
        self.questions.append(asked)
        owner, kind = asked, dns.rdatatype.to_text(question.rdtype)
        for _ in range(20):
            target = self._records(owner, "CNAME")
            if not target or kind == "CNAME":
                break
            reply.answer.append(dns.rrset.from_text(f"{owner}.", self.ttl, "IN", "CNAME", *target))
            owner = target[0].rstrip(".").lower()
        if records := self._records(owner, kind):
            reply.answer.append(dns.rrset.from_text(f"{owner}.", self.ttl, "IN", kind, *records))
        elif not any(known in (asked, owner) for known, _ in self.zone):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply.to_wire(max_size=65535)

    def _records(self, name: str, kind: str) -> list[str]:
        found = self.zone.get((name, kind), [])
        return found() if callable(found) else found

    def _stream(self, stream: socket.socket) -> None:
        file = stream.makefile("rb")
        while len(prefix := file.read(2)) == 2:
            wire = self._answer(file.read(struct.unpack("!H", prefix)[0]))
            stream.sendall(struct.pack("!H", len(wire)) + wire)


class Internet:
    """The laboratory and its Internet.

    Attributes:
        lab: the laboratory.
        dns: the name server.
        authority: the certificate authority of the TLS servers on port 443.
        packets: what the host has sent to the Internet: (destination, IP protocol, payload).
        requests: first bytes of each TCP connection: (address, port, data).
    """

    def __init__(self, lab: Lab, dns: LyingServer, authority: trustme.CA) -> None:
        self.lab = lab
        self.dns = dns
        self.authority = authority
        self.packets: list[tuple[str, int, bytes]] = []
        self.requests: list[tuple[str, int, bytes]] = []

    def forget(self) -> None:
        """Forget all that was seen."""
        self.packets.clear()
        self.requests.clear()
        self.dns.questions.clear()

    def reached(self, address: str, *, seconds: float = 3.0) -> bool:
        """Whether a packet for an address comes within some seconds, or came."""
        wanted = str(ipaddress.ip_address(address))
        return eventually(lambda: any(seen == wanted for seen, _, _ in list(self.packets)), seconds=seconds)

    def closed(self, address: str) -> bool:
        """Whether no packet for an address came; a moment is left for one that is on its way."""
        time.sleep(0.3)
        return not self.reached(address, seconds=0)

    def got(self, text: str, *, seconds: float = 3.0) -> bool:
        """Whether some bytes arrive in a packet of any kind within some seconds, or arrived."""
        wanted = text.encode()
        return eventually(lambda: any(wanted in data for _, _, data in list(self.packets)), seconds=seconds)


@contextmanager
def internet(
    zone: Mapping[tuple[str, str], list[str] | Callable[[], list[str]]], *names: str, tls: bool = True
) -> Iterator[Internet]:
    """A laboratory with this Internet.

    Args:
        zone: of its name server.
        names: those that the certificates of the servers on port 443 are for.
        tls: whether there are such servers.
    """
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names or ("none.example",)).configure_cert(context)
    with laboratory() as lab, ExitStack() as stack:
        made = Internet(lab, LyingServer(zone), authority)
        every = [address for pair in ADDRESSES.values() for address in pair]
        lab.upstream.shell(
            "\n".join(
                f"ip address add {address}/{128 if ':' in address else 32} dev lo{' nodad' if ':' in address else ''}"
                for address in every
            )
            + """
            ip -6 route add local 64:ff9b::/96 dev lo
            ip -6 route add local 64:ff9b:1::/48 dev lo
            ip -6 route add local 2002::/16 dev lo
            ip -6 route add local 2001::/32 dev lo
            ip -6 route add local 2a00:7:0:1::/64 dev lo
            """
        )
        lab.host.shell(
            f"ip route add 169.254.0.0/16 via {GATEWAY4}; ip -6 route add fd00::/8 via {GATEWAY6}", check=False
        )
        lab.set_resolver(f"nameserver {RESOLVER4}", f"nameserver {RESOLVER6}")
        stack.enter_context(_watched(lab.upstream, made))
        stack.enter_context(made.dns.on(lab.upstream, RESOLVER4, RESOLVER6, *ADDRESSES["evil"]))
        for port in _TCP_PORTS:
            if port != 53 and (tls or port != 443):
                serve = _serve(made, context if port == 443 else None)
                stack.enter_context(served(lab.upstream.listen("::", port), serve))
        yield made


def _serve(made: Internet, context: ssl.SSLContext | None) -> Callable[[socket.socket], None]:
    """Answer the first bytes of a connection with a line that tells the address, as HTTP/1.0."""

    def serve(stream: socket.socket) -> None:
        address, port = stream.getsockname()[:2]
        plain = address.removeprefix("::ffff:")
        if not stream.recv(1, socket.MSG_PEEK):  # if it is reset, `wrap_socket` would leave a socket open
            return
        talk = context.wrap_socket(stream, server_side=True, do_handshake_on_connect=False) if context else stream
        with talk:
            while data := talk.recv(65536):
                made.requests.append((plain, port, data))
                text = f"this is {plain} port {port}\n"
                talk.sendall(
                    f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()
                )

    return serve


@contextmanager
def _watched(namespace: Namespace, made: Internet) -> Iterator[None]:
    """Note each IP packet that comes to upstream, outside of loopback."""
    eyes = namespace.call(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)))
    eyes.settimeout(0.2)
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            with suppress(TimeoutError):
                packet, link = eyes.recvfrom(65536)
                if link[0] == "downlink" and link[2] != socket.PACKET_OUTGOING and packet:
                    _note(made, packet)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(5)
        eyes.close()


def _note(made: Internet, packet: bytes) -> None:
    if packet[0] >> 4 == 4 and len(packet) >= 20:
        made.packets.append((str(ipaddress.IPv4Address(packet[16:20])), packet[9], packet[20:]))
    elif packet[0] >> 4 == 6 and len(packet) >= 40:
        made.packets.append((str(ipaddress.IPv6Address(packet[24:40])), packet[6], packet[40:]))
