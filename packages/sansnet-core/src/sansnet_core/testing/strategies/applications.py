"""The first bytes of applications that the network reads: DNS messages, TLS ClientHellos, heads of HTTP requests."""

from __future__ import annotations

import struct
from typing import Final

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from sansnet_core.testing.packets import UDP
from sansnet_core.testing.strategies.envelopes import Packet
from sansnet_core.testing.strategies.parties import Parties
from sansnet_core.testing.strategies.parts import Part, Parts, chance, choose, joined, number
from sansnet_core.testing.strategies.transports import GUEST_PORTS, data_packets, ends, udp_parts

__all__ = [
    "HOST_NAMES",
    "dns_packets",
    "dns_parts",
    "host_names",
    "http_packets",
    "http_parts",
    "tls_packets",
    "tls_parts",
]

HOST_NAMES: Final = ("host.example", "www.example.org", "a.b.c.example", "HOST.Example", "example")
_RECORD_TYPES: Final = (1, 28, 5, 12, 15, 16, 33, 64, 65, 255, 257, 41, 250, 252)
_DNS_HEADER: Final = ("identifier", "flags", "questions", "answers", "authorities", "additional")


_OTHER_NAMES: Final = st.lists(
    st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=63), min_size=1, max_size=4
)


def host_names(draw: DrawFn) -> str:
    """A name of a host: one of those in the configurations of `configs`, or any other."""
    return ".".join(draw(_OTHER_NAMES)) if chance(draw, 3) else choose(draw, HOST_NAMES)


def _labels(name: str) -> bytes:
    return b"".join(bytes((len(label),)) + label.encode() for label in name.split(".")) + b"\0"


def dns_parts(draw: DrawFn, parties: Parties | None = None) -> Parts:
    """Queries of one question (RFC 1035, 4; RFC 6891), some for the name of an address."""
    name = _labels(host_names(draw))
    if parties is not None and chance(draw, 4):
        address = choose(draw, [*parties.destinations(4), *parties.destinations(16)])
        reverse = ".".join(map(str, address[::-1])) if len(address) == 4 else ".".join(address.hex()[::-1])
        name = _labels(reverse + (".in-addr.arpa" if len(address) == 4 else ".ip6.arpa"))
    kind = choose(draw, _RECORD_TYPES)
    edns: Parts = ()
    if chance(draw, 2):
        flags = choose(draw, [0, 0x8000])
        options = choose(draw, [b"", struct.pack("!HH", 10, 8) + b"cookie!!", struct.pack("!HH", 12, 0)])
        size = choose(draw, [1232, 512, 4096, 0, 65535])
        edns = (Part("edns.owner", b"\0"), Part("edns.record", struct.pack("!HHIH", 41, size, flags, len(options))))
        edns += (Part("edns.options", options),) if options else ()
    flags = choose(draw, [0x0100, 0, 0x0110, 0x0120])
    numbers = (choose(draw, [7, 0, 65535]), flags, 1, 0, 0, bool(edns))
    head = (number(f"dns.{field}", value, 2) for field, value in zip(_DNS_HEADER, numbers, strict=True))
    return (*head, Part("dns.name", name), number("dns.type", kind, 2), number("dns.class", 1, 2), *edns)


def dns_packets(draw: DrawFn, parties: Parties) -> Packet:
    """Queries to the guest's name servers, in datagrams or in segments of TCP."""
    size = choose(draw, parties.families)
    source, destination = parties.sources(size)[0], choose(draw, parties.name_servers[size])
    message = dns_parts(draw, parties)
    port = choose(draw, GUEST_PORTS)
    if not chance(draw, 4):
        return Packet(source, destination, UDP, udp_parts(source, port, destination, 53, message))
    framed = (number("dns.size", len(joined(message)), 2), *message)
    return data_packets(draw, source, port, destination, 53, framed)


# TLS (RFC 8446, 4.1.2)

_SOME_EXTENSIONS: Final = st.lists(st.sampled_from((43, 10, 16, 42, 21, 0xFE0D, 0x0A0A)), unique=True)


def _vector(name: str, data: Parts, size: int) -> Parts:
    return (number(f"{name}.size", len(joined(data)), size), *data)


def tls_parts(draw: DrawFn) -> Parts:
    """A TLS ClientHello with a server name, in one record or two."""
    name = host_names(draw).encode()
    server_name = _vector(
        "tls.server_names",
        (number("tls.name_type", 0, 1), *_vector("tls.server_name", (Part("tls.server_name", name),), 2)),
        2,
    )
    known: dict[int, Parts] = {
        0: server_name,
        43: (Part("tls.versions", b"\2\3\4"),),
        10: (Part("tls.groups", b"\0\2\0\x1d"),),
        16: (Part("tls.alpn", b"\0\x0c\2h2\x08http/1.1"),),
        42: (Part("tls.early_data", b""),),
        21: (Part("tls.padding", bytes(choose(draw, [0, 200]))),),
        0xFE0D: (Part("tls.encrypted_hello", bytes(16)),),
        0x0A0A: (Part("tls.grease", b""),),
    }
    chosen = [0, *draw(_SOME_EXTENSIONS)]
    chosen = chosen if chance(draw, 2) else chosen[::-1]
    extensions: Parts = ()
    for kind in chosen:
        extensions += (number("tls.extension", kind, 2), *_vector("tls.extension", known[kind], 2))
    body = (
        Part("tls.version", b"\3\3"),
        Part("tls.random", bytes(32)),
        *_vector("tls.session", (Part("tls.session", bytes(choose(draw, [0, 32]))),), 1),
        *_vector("tls.ciphers", (Part("tls.ciphers", b"\x13\1\xc0\x2b"),), 2),
        *_vector("tls.compressions", (Part("tls.compressions", b"\0"),), 1),
        *_vector("tls.extensions", extensions, 2),
    )
    message = (number("tls.message", 1, 1), *_vector("tls.message", body, 3))
    head = Part("tls.record", b"\x16\3\1")
    size = len(joined(message))
    place = choose(draw, [size, size, size, 1, 40])
    if place >= size:
        return (head, *_vector("tls.record", message, 2))
    data = joined(message)
    first, second = Part("tls.fragment", data[:place]), Part("tls.fragment", data[place:])
    return (head, *_vector("tls.record", (first,), 2), head, *_vector("tls.record", (second,), 2))


def tls_packets(draw: DrawFn, parties: Parties) -> Packet:
    """A TLS ClientHello in a segment to port 443."""
    source, destination = ends(draw, parties)
    return data_packets(draw, source, choose(draw, GUEST_PORTS), destination, 443, tls_parts(draw))


# HTTP (RFC 9112)

_BODIES: Final = st.binary(max_size=20)


def http_parts(draw: DrawFn) -> Parts:
    """Requests of HTTP/1, with and without a body."""
    name = host_names(draw)
    method = choose(draw, ["GET", "POST", "HEAD", "OPTIONS", "CONNECT", "PUT"])
    port = choose(draw, ["", ":80", ":8080"])
    target = choose(draw, ["/", "/a?b=c", f"http://{name}{port}/", f"https://{name}/"])
    target = {"CONNECT": f"{name}:443"}.get(method, target)
    fields = [("Host", name + port)]
    if chance(draw, 2):
        fields += choose(draw, [[("Accept", "*/*")], [("X", "")], [("User-Agent", "curl"), ("Accept", "*/*")]])
    body = b""
    if method in ("POST", "PUT"):
        body = draw(_BODIES)
        if chance(draw, 2):
            fields.append(("Content-Length", str(len(body))))
        else:
            fields.append(("Transfer-Encoding", "chunked"))
            body = (f"{len(body):x}\r\n".encode() + body + b"\r\n" if body else b"") + b"0\r\n\r\n"
    elif chance(draw, 4):
        fields += [("Connection", "Upgrade"), ("Upgrade", "websocket")]
    version = choose(draw, ["HTTP/1.1", "HTTP/1.1", "HTTP/1.0"])
    line = (("http.method", method), ("http.space", " "), ("http.target", target), ("http.space", " "))
    parts = [Part(part, text.encode()) for part, text in (*line, ("http.version", version), ("http.end", "\r\n"))]
    for field, value in fields:
        head = (("http.field", field), ("http.colon", ": "), ("http.value", value), ("http.end", "\r\n"))
        parts += [Part(part, text.encode()) for part, text in head if text]
    return (*parts, Part("http.end", b"\r\n"), *((Part("http.body", body),) if body else ()))


def http_packets(draw: DrawFn, parties: Parties) -> Packet:
    """Requests in segments to port 80."""
    source, destination = ends(draw, parties)
    return data_packets(draw, source, choose(draw, GUEST_PORTS), destination, 80, http_parts(draw))
