"""Ways around a policy by name that were found elsewhere, each tried from inside a real guest.

For each way, the same guest without a policy reaches the destination, so that the tests prove something. The list is in
docs/threats.md. Whether something was reached is seen on the wire upstream.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.lab import HOST4, HOST6, Guest, eventually, served
from tests.lab.internet import ADDRESSES, RESOLVER4, Internet, internet
from tests.lab.servers import answered

PROBE: Final = str(Path(__file__).parents[1] / "lab" / "probe.py")
ALLOWED4, ALLOWED6 = ADDRESSES["allowed"]
OTHER4, OTHER6 = ADDRESSES["other"]
SHARED4, SHARED6 = ADDRESSES["shared"]
EVIL4, EVIL6 = ADDRESSES["evil"]
PRIVATE4, PRIVATE6 = ADDRESSES["private"]
METADATA4, METADATA6 = ADDRESSES["metadata"]

LONG: Final = "a" * 63 + ".label.example"
HOSTILE: Final = {
    "loopback": ("127.0.0.1", "::1"),
    "private": (PRIVATE4, PRIVATE6),
    "metadata": (METADATA4, METADATA6),
    "host": (HOST4, HOST6),
    "mapped": ("0.0.0.0", "::ffff:127.0.0.1"),
    "linklocal": ("169.254.1.1", "fe80::1"),
    "multicast": ("224.0.0.251", "ff02::fb"),
    "carried": ("255.255.255.255", "64:ff9b::a42:1"),
}
"""Label -> the addresses that a hostile server gives for LABEL.hostile.example."""

ZONE: Final = {
    ("allowed.example", "A"): [ALLOWED4],
    ("allowed.example", "AAAA"): [ALLOWED6],
    ("other.example", "A"): [OTHER4],
    ("other.example", "AAAA"): [OTHER6],
    ("one.shared.example", "A"): [SHARED4],
    ("one.shared.example", "AAAA"): [SHARED6],
    ("two.shared.example", "A"): [SHARED4],
    ("two.shared.example", "AAAA"): [SHARED6],
    ("www.alias.example", "CNAME"): ["edge.cdn.example."],
    ("edge.cdn.example", "A"): [OTHER4],
    ("edge.cdn.example", "AAAA"): [OTHER6],
    ("loop.alias.example", "CNAME"): ["pool.alias.example."],
    ("pool.alias.example", "CNAME"): ["loop.alias.example."],
    ("secret.evil.example", "A"): [EVIL4],
    ("evil.example", "A"): [EVIL4],
    ("evil.example", "AAAA"): [EVIL6],
    ("under_score.label.example", "A"): [ALLOWED4],
    (LONG, "A"): [ALLOWED4],
    ("xn--bcher-kva.example", "A"): [ALLOWED4],
    **{(f"{label}.hostile.example", "A"): [pair[0]] for label, pair in HOSTILE.items()},
    **{(f"{label}.hostile.example", "AAAA"): [pair[1]] for label, pair in HOSTILE.items()},
}

POLICY: Final = """
default = "refuse"

[[rule]]
label = "the only host"
action = "allow"
protocol = "tcp"
to = ["allowed.example", "www.alias.example", "loop.alias.example", "*.label.example", "xn--bcher-kva.example"]
port = [7, 80, 443]

[[rule]]
label = "one of two on an address"
action = "allow"
protocol = "tcp"
to = ["one.shared.example"]
port = [80, 443]

[[rule]]
label = "a domain whose server is hostile"
action = "allow"
to = ["*.hostile.example"]

[[rule]]
label = "without port 443 of UDP"
action = "allow"
to = ["allowed.example"]
port = [443]
"""


@pytest.fixture(scope="module")
def world() -> Iterator[Internet]:
    with internet(ZONE, "allowed.example", "one.shared.example", "two.shared.example") as made:
        yield made


@pytest.fixture(scope="module")
def policy(world: Internet) -> str:
    path = world.lab.directory / "policy.toml"
    path.write_text(POLICY)
    return str(path)


@pytest.fixture(scope="module", params=["own", "real"])
def confined(request: pytest.FixtureRequest, world: Internet, policy: str) -> Iterator[Guest]:
    """A guest under the policy, with own addresses for names and with their real ones."""
    with world.lab.guest("-m", "1500", "--names", request.param, "--policy", policy, warning="reached") as made:
        yield made


@pytest.fixture(scope="module")
def free(world: Internet) -> Iterator[Guest]:
    """The same guest without a policy."""
    with world.lab.guest("-m", "1500") as made:
        yield made


@pytest.fixture(autouse=True)
def seen(world: Internet) -> None:
    world.forget()


def probe(guest: Guest, *words: str) -> str:
    """Run the probe in a guest; its line."""
    return guest.run(sys.executable, PROBE, *words, timeout=40).stdout.strip()


class Way(NamedTuple):
    """A way to a destination.

    Attributes:
        words: of the probe.
        address: that is reached without a policy.
    """

    words: tuple[str, ...]
    address: str


def spelled(address: str) -> str:
    """An IPv4 address within ::ffff:0:0/96."""
    return f"::ffff:{address}"


def carried(prefix: str, address: str) -> str:
    """An IPv6 address that carries an IPv4 address behind a prefix, as text."""
    return socket.inet_ntop(socket.AF_INET6, prepared(prefix, socket.inet_aton(address)))


def prepared(prefix: str, address: bytes) -> bytes:
    match prefix:
        case "64:ff9b::/96" | "64:ff9b:1::/96":
            return socket.inet_pton(socket.AF_INET6, prefix.removesuffix("/96"))[:12] + address
        case "2002::/16":
            return b"\x20\x02" + address + bytes(9) + b"\x01"
        case "2001::/32":
            return b"\x20\x01" + bytes(10) + bytes(byte ^ 0xFF for byte in address)
        case _:  # ISATAP (RFC 5214, 6.1)
            return socket.inet_pton(socket.AF_INET6, "2a00:7:0:1::")[:8] + b"\x00\x00\x5e\xfe" + address


LITERALS: Final = {
    "1 literal": Way(("tcp", OTHER4, "7", "hello"), OTHER4),
    "1 literal, IPv6": Way(("tcp", OTHER6, "7", "hello"), OTHER6),
    "1 literal of an allowed name": Way(("tcp", ALLOWED4, "443", "hello"), ALLOWED4),
    "1 literal of an allowed name, IPv6": Way(("tcp", ALLOWED6, "443", "hello"), ALLOWED6),
    "1 datagram": Way(("udp", OTHER4, "7", "hello"), OTHER4),
    "1 datagram, IPv6": Way(("udp", OTHER6, "7", "hello"), OTHER6),
    "2 mapped": Way(("tcp", spelled(OTHER4), "7", "hello"), OTHER4),
    "3 DNS": Way(("dns", EVIL4, "secret.evil.example", "A"), EVIL4),
    "3 DNS, IPv6": Way(("dns", EVIL6, "secret.evil.example", "A"), EVIL6),
    "3 DNS over TCP": Way(("dns", EVIL4, "secret.evil.example", "A", "tcp"), EVIL4),
    "3 DNS over TCP, IPv6": Way(("dns", EVIL6, "secret.evil.example", "A", "tcp"), EVIL6),
    "3 DNS over TLS": Way(("tcp", EVIL4, "853", "hello"), EVIL4),
    "3 DNS over TLS, the host's server": Way(("tcp", RESOLVER4, "853", "hello"), RESOLVER4),
    "3 DNS over QUIC": Way(("udp", EVIL4, "853", "hello"), EVIL4),
    "3 DNS over HTTPS": Way(("tls", SHARED4, "443", "two.shared.example"), SHARED4),
    "3 mDNS": Way(("udp", EVIL4, "5353", "hello"), EVIL4),
    "3 LLMNR": Way(("udp", EVIL4, "5355", "hello"), EVIL4),
    "3 NetBIOS": Way(("udp", EVIL4, "137", "hello"), EVIL4),
    "9 QUIC": Way(("udp", OTHER4, "443", "hello"), OTHER4),
    "11 fragments": Way(("fragments", OTHER4, "7", "hello"), OTHER4),
    "11 fragments, IPv6": Way(("fragments", OTHER6, "7", "hello"), OTHER6),
    "13 metadata": Way(("tcp", METADATA4, "80", "hello"), METADATA4),
    "13 metadata, IPv6": Way(("tcp", METADATA6, "80", "hello"), METADATA6),
    "13 metadata, as a number": Way(("tcp", "2852039166", "80", "hello"), METADATA4),
    "13 metadata, in octal": Way(("tcp", "0251.0376.0251.0376", "80", "hello"), METADATA4),
    "13 metadata, mapped": Way(("tcp", spelled(METADATA4), "80", "hello"), METADATA4),
    **{
        f"2 carried by {prefix}": Way(("tcp", carried(prefix, OTHER4), "7", "hello"), carried(prefix, OTHER4))
        for prefix in ("64:ff9b::/96", "64:ff9b:1::/96", "2002::/16", "2001::/32", "ISATAP")
    },
}


@pytest.mark.parametrize("way", LITERALS.values(), ids=LITERALS)
def test_an_address_without_a_name_is_closed(world: Internet, confined: Guest, way: Way) -> None:
    assert "this is" not in probe(confined, *way.words)
    assert world.closed(way.address)


@pytest.mark.parametrize("way", LITERALS.values(), ids=LITERALS)
def test_the_same_is_open_without_a_policy(world: Internet, free: Guest, way: Way) -> None:
    probe(free, *way.words)
    assert world.reached(way.address)


@pytest.mark.parametrize(("host", "address"), [("-4", OTHER4), ("-6", OTHER6)])
def test_10_pings_are_closed(world: Internet, confined: Guest, free: Guest, host: str, address: str) -> None:
    assert confined.run("ping", host, "-c1", "-W1", address, check=False).returncode
    assert world.closed(address)
    assert not free.run("ping", host, "-c1", "-W1", address, check=False).returncode


@pytest.mark.parametrize("protocol", [4, 41, 47, 50, 132])
@pytest.mark.parametrize(("kind", "address"), [("raw4", OTHER4), ("raw6", OTHER6)])
def test_11_other_protocols_are_closed(
    world: Internet, confined: Guest, protocol: int, kind: str, address: str
) -> None:
    assert probe(confined, kind, address, str(protocol), "hello") == "sent"
    assert world.closed(address)


BY_NAME: Final = {
    "TCP": ("tcp", "allowed.example", "7", "hello"),
    "upper case": ("tcp", "ALLOWED.Example", "7", "hello"),
    "trailing dot": ("tcp", "allowed.example.", "7", "hello"),
    "TLS": ("tls", "allowed.example", "443", "allowed.example"),
    "TLS, upper case": ("tls", "allowed.example", "443", "Allowed.EXAMPLE"),
    "TLS, split": ("tls", "allowed.example", "443", "allowed.example", "7"),
    "HTTP": ("tcp", "allowed.example", "80", "GET / HTTP/1.1\\r\\nHost: allowed.example\\r\\n\\r\\n"),
    "shared": ("tls", "one.shared.example", "443", "one.shared.example"),
    "alias": ("tcp", "www.alias.example", "7", "hello"),
    "underscore": ("tcp", "under_score.label.example", "7", "hello"),
    "long label": ("tcp", LONG, "7", "hello"),
    "international": ("tcp", "bücher.example", "7", "hello"),
}


@pytest.mark.parametrize("words", BY_NAME.values(), ids=BY_NAME)
def test_an_allowed_name_is_open(confined: Guest, words: tuple[str, ...]) -> None:
    assert probe(confined, *words).startswith("this is")


NOT_BY_NAME: Final = {
    "another name": ("tcp", "other.example", "7", "hello"),
    "another port": ("tcp", "allowed.example", "22", "hello"),
    "4 a subdomain": ("tcp", "secret.evil.example", "7", "hello"),
    "6 a member of the chain": ("tcp", "edge.cdn.example", "7", "hello"),
    "6 a loop": ("tcp", "loop.alias.example", "7", "hello"),
    "8 a name of the same address": ("tls", "two.shared.example", "443", "two.shared.example"),
    "8 another server name": ("tls", "one.shared.example", "443", "two.shared.example"),
    "8 no server name": ("tls", "one.shared.example", "443", "-"),
    "8 another server name, split": ("tls", "one.shared.example", "443", "two.shared.example", "1"),
    "8 no TLS": ("tcp", "one.shared.example", "443", "hello\\r\\n\\r\\n"),
    "8 another Host": ("tcp", "one.shared.example", "80", "GET / HTTP/1.1\\r\\nHost: two.shared.example\\r\\n\\r\\n"),
    "8 two Hosts": (
        "tcp",
        "one.shared.example",
        "80",
        "GET / HTTP/1.1\\r\\nHost: one.shared.example\\r\\nHost: two.shared.example\\r\\n\\r\\n",
    ),
    "8 absolute target": (
        "tcp",
        "one.shared.example",
        "80",
        "GET http://two.shared.example/ HTTP/1.1\\r\\nHost: one.shared.example\\r\\n\\r\\n",
    ),
    "8 CONNECT": (
        "tcp",
        "one.shared.example",
        "80",
        "CONNECT two.shared.example:443 HTTP/1.1\\r\\nHost: one.shared.example\\r\\n\\r\\n",
    ),
    "8 HTTP/2 without TLS": ("tcp", "one.shared.example", "80", "PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n"),
    "17 not a subdomain": ("tcp", "badlabel.example", "7", "hello"),
    "17 the domain of a wildcard": ("tcp", "label.example", "7", "hello"),
}


@pytest.mark.parametrize("words", NOT_BY_NAME.values(), ids=NOT_BY_NAME)
def test_another_name_is_closed(world: Internet, confined: Guest, words: tuple[str, ...]) -> None:
    assert not probe(confined, *words).startswith("this is")
    assert not world.requests


@pytest.mark.parametrize(
    "words", [("udp", "allowed.example", "443", "hello"), ("udp", "allowed.example", "7", "hello")]
)
def test_9_datagrams_to_an_allowed_name_are_closed(
    world: Internet, confined: Guest, free: Guest, words: tuple[str, ...]
) -> None:
    probe(confined, *words)
    assert world.closed(ALLOWED4)
    assert world.closed(ALLOWED6)
    probe(free, *words)
    assert world.reached(ALLOWED4) or world.reached(ALLOWED6)


@pytest.mark.parametrize("kind", ["A", "AAAA", "TXT", "ANY", "HTTPS", "MX", "NULL"])
@pytest.mark.parametrize("by", ["udp", "tcp"])
def test_4_a_question_that_no_rule_allows_does_not_leave(world: Internet, confined: Guest, kind: str, by: str) -> None:
    assert probe(confined, "dns", RESOLVER4, f"{kind}.secret.evil.example", kind, by) == "REFUSED"
    assert world.dns.questions == []
    assert world.closed(RESOLVER4)


def test_4_types_that_carry_anything_are_not_forwarded(world: Internet, confined: Guest) -> None:
    assert probe(confined, "dns", RESOLVER4, "allowed.example", "NULL") == "REFUSED"
    assert world.dns.questions == []


@pytest.mark.parametrize("label", HOSTILE)
def test_5_hostile_answers_are_taken_out(world: Internet, confined: Guest, label: str) -> None:
    probe(confined, "tcp", f"{label}.hostile.example", "7", "hello")
    probe(confined, "udp", f"{label}.hostile.example", "7", "hello")
    assert world.closed(PRIVATE4)
    for address in (PRIVATE6, METADATA4, METADATA6, "64:ff9b::a42:1"):
        assert not world.reached(address, seconds=0)


def test_5_the_hosts_own_services_are_closed_by_name_and_address(world: Internet, confined: Guest) -> None:
    heard: list[bytes] = []

    def hear(stream: socket.socket) -> None:
        heard.append(stream.recv(100))

    with served(world.lab.host.listen("::", 7070), hear):
        for host in ("loopback.hostile.example", "host.hostile.example", "mapped.hostile.example", HOST4, HOST6):
            assert "this is" not in probe(confined, "tcp", host, "7070", "hello")
    assert heard == []


def test_7_a_lifetime_of_zero_is_long_enough_to_connect(world: Internet, policy: str) -> None:
    world.dns.ttl = 0
    try:
        with world.lab.guest("--policy", policy, warning="reached") as guest:
            address = probe(guest, "dns", RESOLVER4, "allowed.example", "A").split()[1]
            time.sleep(2)
            assert probe(guest, "tcp", address, "7", "hello").startswith("this is")
    finally:
        world.dns.ttl = 60


def test_14_the_aliases_of_the_host_are_closed(world: Internet, policy: str) -> None:
    heard: list[bytes] = []

    def hear(stream: socket.socket) -> None:
        heard.append(stream.recv(100))
        stream.sendall(b"this is the host\n")

    aliases = ("--map-host-loopback", "8.8.4.4", "--map-host-loopback", "2001:4860:4860::8844")
    with served(world.lab.host.listen("::", 7070), hear):
        with world.lab.guest(*aliases, "--policy", policy, warning="reached") as guest:
            for alias in aliases[1::2]:
                assert "this is" not in probe(guest, "tcp", alias, "7070", "hello")
        with world.lab.guest(*aliases, "--preset", "public", warning="reached") as guest:
            for alias in aliases[1::2]:
                assert "this is" not in probe(guest, "tcp", alias, "7070", "hello")
            assert probe(guest, "tcp", OTHER4, "7", "hello").startswith("this is")
        assert heard == []
        with world.lab.guest(*aliases) as guest:
            for alias in aliases[1::2]:
                assert probe(guest, "tcp", alias, "7070", "hello") == "this is the host"


def test_14_addresses_that_the_host_delivers_to_itself_are_closed(world: Internet) -> None:
    """The anycast address of routers in a network of the host, and networks with a local route."""
    host, heard = world.lab.host, []

    def hear(stream: socket.socket) -> None:
        heard.append(stream.getsockname()[0])
        stream.sendall(b"this is the host\n")

    def answer(data: bytes) -> bytes:
        heard.append(data.decode())
        return b"this is the host\n"

    host.shell(
        """
        sysctl -qw net.ipv6.conf.all.forwarding=1
        ip address add 2a00:99::5/64 dev uplink nodad
        ip route add local 20.1.0.0/16 dev lo
        ip -6 route add local 2a00:98::/64 dev lo
        """
    )
    ways = [
        *(("udp", address, "7070", address) for address in ("2a00:99::", "2a00:98::7", "20.1.2.3")),
        *(("tcp", address, "7070", address) for address in ("2a00:98::7", "20.1.2.3")),
    ]
    try:
        with served(host.listen("::", 7070), hear), answered(host.datagram("::", 7070), answer):
            with world.lab.guest("--preset", "public", warning="reached") as guest:
                for way in ways:
                    assert "this is" not in probe(guest, *way)
                assert probe(guest, "tcp", OTHER4, "7", "hello").startswith("this is")
            assert heard == []
            with world.lab.guest() as guest:
                for way in ways:
                    probe(guest, *way)
                assert len(heard) >= len(ways)
    finally:
        host.shell(
            """
            ip route del local 20.1.0.0/16 dev lo
            ip -6 route del local 2a00:98::/64 dev lo
            ip address del 2a00:99::5/64 dev uplink
            sysctl -qw net.ipv6.conf.all.forwarding=0
            """
        )


@pytest.mark.parametrize("prefix", ["64:ff9b::/96", "64:ff9b:1::/96", "2002::/16", "2001::/32", "ISATAP"])
def test_2_an_address_that_carries_a_closed_one_is_closed(world: Internet, prefix: str) -> None:
    with world.lab.guest("--refuse", OTHER4, "--preset", "public", warning="reached") as guest:
        for address in (OTHER4, carried(prefix, OTHER4), carried(prefix, PRIVATE4), carried(prefix, METADATA4)):
            assert "this is" not in probe(guest, "tcp", address, "7", "hello")
            assert world.closed(address)
        assert probe(guest, "tcp", ALLOWED4, "7", "hello").startswith("this is")


def test_2_the_networks_own_translator_is_known_if_it_is_given(world: Internet) -> None:
    """2a00:7:0:1::/64 is one of upstream's networks; RFC 6052, 2.2 has the form of an address behind it."""
    prefix, behind = (
        "2a00:7:0:1::/96",
        socket.inet_ntop(socket.AF_INET6, bytes.fromhex("2a000007000000010000000042424242")),
    )
    closed = ("--refuse", "66.66.66.66", "--preset", "public")
    with world.lab.guest(*closed, warning="reached") as guest:
        assert probe(guest, "tcp", behind, "7", "hello").startswith("this is")
    world.forget()
    with world.lab.guest("--nat64", prefix, *closed, warning="reached") as guest:
        assert "this is" not in probe(guest, "tcp", behind, "7", "hello")
        assert world.closed(behind)


def test_16_hostile_names_reach_no_log(world: Internet, policy: str) -> None:
    audit = world.lab.directory / "audit.jsonl"
    label = b"\x1b[31m\n\r\x00\xff\x9b"
    query = struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + bytes([len(label)]) + label + b"\x07example\0\0\1\0\1"
    with world.lab.guest("--policy", policy, "--audit", str(audit), warning="reached") as guest:
        probe(guest, "wire", RESOLVER4, query.hex())
        assert eventually(lambda: audit.exists() and b"example" in audit.read_bytes())
    data = audit.read_bytes()
    assert all(byte == 10 or 32 <= byte < 127 for byte in data)
    assert all(json.loads(line) for line in data.splitlines())
    assert world.dns.questions == []


def test_18_the_name_is_asked_for_once_and_the_judged_address_is_used(world: Internet, policy: str) -> None:
    answers = iter([[ALLOWED4], [PRIVATE4], [PRIVATE4], [PRIVATE4]])
    world.dns.zone["rebind.hostile.example", "A"] = lambda: next(answers)
    with world.lab.guest("--policy", policy, warning="reached") as guest:
        assert probe(guest, "tcp", "rebind.hostile.example", "7", "hello").startswith("this is")
        assert world.dns.questions.count("rebind.hostile.example") <= 2  # one for each family
        assert world.closed(PRIVATE4)
