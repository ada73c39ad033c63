"""Datagrams of the guest that are larger than the path MTU that the host knows."""

from __future__ import annotations

import dataclasses
from errno import EHOSTUNREACH, EMSGSIZE, EPROTO
from typing import Final

import pytest

from sansnet_core import Endpoint, ExtendedError, SendDatagram
from sansnet_core.addresses import packed
from sansnet_core.orders import ORIGIN_ICMP, ORIGIN_ICMPV6, ORIGIN_LOCAL
from sansnet_core.records import replace
from sansnet_core.testing import OUTSIDER, SERVER, SERVER6, make_config
from sansnet_core.testing.packets import Ip, fragments, udp
from tests.core.direct import GUEST, GUEST6, Direct

MTU: Final = 1400
LARGE: Final = bytes(8000)
MANY: Final = 40
"""Datagrams of 8000 bytes that are more than a search for the path MTU sends."""
BOTH: Final = pytest.mark.parametrize("family", [4, 6])


def direct(**link: bool) -> Direct:
    """A network whose link has a large MTU."""
    config = make_config()
    return Direct(replace(config, link=replace(config.link, mtu=65520, max_frame_size=65534, **link)))


class Path:
    """One flow of the guest over a path with a small MTU."""

    def __init__(self, family: int, bench: Direct | None = None) -> None:
        self.bench = bench or direct()
        self.family = family
        self.guest, self.remote = (GUEST, SERVER) if family == 4 else (GUEST6, SERVER6)
        self.port = 5000

    def packet(self, data: bytes, ttl: int = 64) -> Ip:
        return dataclasses.replace(udp(self.guest, self.port, self.remote, 7, data), ttl=ttl)

    def send(self, *sizes: int, ttl: int = 64) -> list[SendDatagram]:
        """The orders for datagrams of one batch."""
        self.bench.send(*(self.packet(bytes(size), ttl) for size in sizes))
        return self.orders()

    def orders(self) -> list[SendDatagram]:
        return [order for order in self.bench.take() if isinstance(order, SendDatagram)]

    def refuse(self, order: SendDatagram, mtu: int = MTU, origin: int = ORIGIN_LOCAL) -> list[SendDatagram]:
        """The host's kernel knows the path MTU, or a router tells it."""
        kind = {ORIGIN_LOCAL: (0, 0), ORIGIN_ICMP: (3, 4), ORIGIN_ICMPV6: (2, 0)}[origin]
        error = ExtendedError(EMSGSIZE, origin, *kind, mtu, None)
        self.bench.network.datagram_failed(order.socket, order.remote, error, bytes(order.data), self.bench.now)
        self.bench.collect()
        return self.orders()

    def answer(self, order: SendDatagram, data: bytes = b"answer") -> None:
        self.bench.network.datagram_received(order.socket, order.remote, data, 0, 60, 0, self.bench.now)
        self.bench.collect()
        self.bench.packets.clear()

    def told(self) -> list[tuple[str, int]]:
        """The kind of packet that each message to the guest quotes, and its MTU."""
        packets, self.bench.packets = self.bench.packets, []
        return [read_mtu(packet) for packet in packets]

    def tell(self) -> None:
        """Let the guest learn the MTU by a large datagram, and obey it."""
        [order] = self.send(8000)
        assert self.refuse(order)
        self.bench.wait(1.2)
        assert self.told() == [("echo reply", MTU)]


def is_strict(order: SendDatagram) -> bool:
    """Whether it fails if it is too large."""
    return not (order.may_fragment or order.fragment_here)


def read_mtu(packet: Ip) -> tuple[str, int]:
    if packet.version == 4:
        assert packet.payload[:2] == b"\3\4"
        protocol, start, reply = packet.payload[8 + 9], 8 + 20, b"\0\0"
    else:
        assert packet.payload[:2] == b"\2\0"
        protocol, start, reply = packet.payload[8 + 6], 8 + 40, b"\x81\0"
    if protocol == 17:
        return "datagram", int.from_bytes(packet.payload[4:8], "big")
    assert packet.payload[start : start + 2] == reply
    return "echo reply", int.from_bytes(packet.payload[4:8], "big")


@BOTH
def test_the_first_large_datagram_is_sent_in_fragments_and_the_guest_is_told(family: int) -> None:
    path = Path(family)
    [tried] = path.send(8000)
    assert is_strict(tried)
    [again] = path.refuse(tried)
    assert (is_strict(again), again.may_fragment, bytes(again.data)) == (False, False, LARGE)
    assert (again.remote, again.ttl, again.tos) == (tried.remote, tried.ttl, tried.tos)
    assert path.told() == []
    path.bench.wait(0.2)
    assert path.told() == [("echo reply", MTU)]
    assert path.bench.drops() == {}


@BOTH
def test_all_datagrams_of_the_first_batch_are_sent(family: int) -> None:
    path = Path(family)
    orders = path.send(8000, 8000, 9000, 3000)
    assert [is_strict(order) for order in orders] == [True, False, False, False]
    assert len(path.refuse(orders[0])) == 1
    assert [is_strict(order) for order in path.send(8000, 20000)] == [False, False]


@BOTH
def test_small_datagrams_are_sent_without_a_question(family: int) -> None:
    path = Path(family)
    assert [order.fragment_here for order in path.send(0, 1, 1199, 1200, 1232)] == [False, False, False, True, True]


@BOTH
def test_a_size_that_the_path_takes_is_tried_once(family: int) -> None:
    path = Path(family)
    for expected in (True, False):
        assert [is_strict(order) for order in path.send(1400)] == [expected]
        path.bench.wait(1)
    assert [is_strict(order) for order in path.send(1401)] == [True]


@BOTH
def test_a_run_of_large_datagrams_is_sent_whole(family: int) -> None:
    bench = direct(vnet_header=True, checksum_offload=True, uso=True)
    path = Path(family, bench)
    head = bytes([1, 5, 0, 0]) + (2000).to_bytes(2, "little") + bytes(6)
    bench.send(path.packet(bytes(7000)), head=head)
    first, rest = path.orders()
    assert (len(first.data), first.segment_size, is_strict(first)) == (2000, 0, True)
    assert (len(rest.data), rest.segment_size, is_strict(rest)) == (5000, 2000, False)
    [again] = path.refuse(first)
    assert (len(again.data), again.segment_size, is_strict(again)) == (2000, 0, False)


@BOTH
@pytest.mark.parametrize("size", [2001, 4000])
def test_the_rest_of_a_run_of_two_is_no_run(family: int, size: int) -> None:
    """The host's kernel takes no segment size that is larger than the data."""
    bench = direct(vnet_header=True, checksum_offload=True, uso=True)
    path = Path(family, bench)
    bench.send(path.packet(bytes(size)), head=bytes([1, 5, 0, 0]) + (2000).to_bytes(2, "little") + bytes(6))
    assert [(len(order.data), order.segment_size) for order in path.orders()] == [(2000, 0), (size - 2000, 0)]


@BOTH
def test_what_is_too_large_for_a_guest_that_was_told_gets_an_error(family: int) -> None:
    path = Path(family)
    path.tell()
    [order] = path.send(8000)
    assert is_strict(order)
    assert path.refuse(order) == []
    assert path.told() == [("datagram", MTU)]


@BOTH
def test_datagrams_on_their_way_while_the_guest_is_told_are_sent(family: int) -> None:
    path = Path(family)
    [order] = path.send(8000)
    path.refuse(order)
    path.bench.wait(0.2)
    assert path.told() == [("echo reply", MTU)]
    [order] = path.send(8000)
    assert not is_strict(order) or path.refuse(order)


@BOTH
def test_fragments_of_a_guest_that_was_told_are_sent(family: int) -> None:
    path = Path(family)
    path.tell()
    path.bench.send(*fragments(path.packet(LARGE), 1352))
    [order] = path.orders()
    assert order.may_fragment


@BOTH
def test_a_guest_is_told_again_before_it_forgets(family: int) -> None:
    path = Path(family)
    path.tell()
    path.bench.wait(301)
    [order] = path.send(8000)
    assert path.refuse(order)
    path.bench.wait(0.2)
    assert path.told() == [("echo reply", MTU)]


@BOTH
def test_a_program_that_keeps_asking_keeps_getting_errors(family: int) -> None:
    path = Path(family)
    path.tell()
    for _ in range(5):
        path.bench.wait(170)  # flows of one direction end earlier
        [order] = path.send(8000)
        assert path.refuse(order) == []
        assert path.told() == [("datagram", MTU)]


@BOTH
def test_a_path_that_becomes_smaller_is_told_again(family: int) -> None:
    path = Path(family)
    path.tell()
    [order] = path.send(1340)
    if is_strict(order):
        assert path.refuse(order, 1300)
        path.bench.wait(0.2)
        assert path.told() == [("echo reply", 1300)]


@BOTH
def test_a_traceroute_gets_errors_at_once(family: int) -> None:
    path = Path(family)
    for ttl in (1, 31):
        [order] = path.send(8000, ttl=ttl)
        assert is_strict(order)
        assert path.refuse(order) == []
        assert path.told() == [("datagram", MTU)]


@BOTH
def test_a_probe_behind_a_handshake_gets_an_error_at_once(family: int) -> None:
    """As QUIC probes: 1200 bytes there and back, then larger ones (RFC 9000, 14.3)."""
    path = Path(family)
    [order] = path.send(1200)
    path.answer(order, bytes(1200))
    [order] = path.send(1452)
    assert is_strict(order)
    assert path.refuse(order) == []
    assert path.told() == [("datagram", MTU)]
    [order] = path.send(1200)
    assert order.fragment_here


@BOTH
def test_a_probe_that_the_path_takes_is_not_repeated(family: int) -> None:
    path = Path(family)
    [order] = path.send(1200)
    path.answer(order)
    assert [is_strict(order) for order in path.send(1452)] == [True]
    assert [is_strict(order) for order in path.send(1452)] == [False]


@BOTH
def test_a_large_answer_behind_a_small_one_is_sent(family: int) -> None:
    path = Path(family)
    for size in (100, 1400, 8000):
        [order] = path.send(size)
        if is_strict(order) and size > 1400:
            assert path.refuse(order)
        path.answer(order)


@BOTH
def test_a_guest_that_sends_many_is_not_told(family: int) -> None:
    path = Path(family)
    orders = path.send(*[8000] * MANY)
    path.refuse(orders[0])
    path.send(*[8000] * MANY)
    path.bench.wait(2)
    assert path.told() == []
    assert not any(is_strict(order) for order in path.send(8000, 60000))


@BOTH
def test_what_a_router_says_is_passed_on_and_counts_as_told(family: int) -> None:
    path = Path(family)
    [order] = path.send(1300)
    assert path.refuse(order, 1280, ORIGIN_ICMP if family == 4 else ORIGIN_ICMPV6) == []
    assert path.told() == [("datagram", 1280)]
    path.bench.wait(1)
    [order] = path.send(1300)
    assert is_strict(order)
    assert path.refuse(order, 1280) == []
    assert path.told() == [("datagram", 1280)]


@BOTH
@pytest.mark.parametrize("run", [False, True])
def test_the_first_large_answer_to_a_client_is_sent_from_where_it_was_asked(family: int, run: bool) -> None:
    bench = direct(vnet_header=True, checksum_offload=True, uso=True)
    forward = bench.network.forward_added(None, 53, bench.now, (4, 16))
    client = OUTSIDER if family == 4 else Endpoint(SERVER6, 999)
    guest = GUEST if family == 4 else GUEST6
    bench.send(udp(guest, 1, SERVER if family == 4 else SERVER6, 1, b"the guest's address"))
    bench.take()
    local = bytes((203, 0, 113, 5)) if family == 4 else packed("2001:db8:dddd::5")
    bench.network.datagram_received(forward, client, b"question", 0, 64, 0, bench.now, local)
    bench.collect()
    head = bytes([1, 5, 0, 0]) + (5000).to_bytes(2, "little") + bytes(6) if run else b""
    bench.send(udp(guest, 53, client.address, client.port, LARGE), head=head)
    path = Path(family, bench)
    tried, *rest = path.orders()
    size = 5000 if run else len(LARGE)
    assert tried == SendDatagram(forward, client, bytes(size), 0, 64, 0, False, local)
    assert [(len(order.data), order.local) for order in rest] == ([(len(LARGE) - size, local)] if run else [])
    assert path.refuse(tried) == [SendDatagram(forward, client, bytes(size), 0, 64, 0, False, local, True)]


@BOTH
@pytest.mark.parametrize("ttl", [1, 64])
def test_to_a_group_all_is_sent_and_nothing_told(family: int, ttl: int) -> None:
    """A program that sends to groups has a TTL of 1, unless it asks for another."""
    path = Path(family)
    path.remote = bytes((239, 1, 2, 3)) if family == 4 else bytes.fromhex("ff0e") + bytes(13) + b"\1"
    [order] = path.send(8000, ttl=ttl)
    assert path.refuse(order)
    path.bench.wait(2)
    assert path.told() == []
    assert [is_strict(order) for order in path.send(8000, ttl=ttl)] == [False]


@pytest.mark.parametrize("mtu", [0, 1, 67, 8028, 70_000, (1 << 32) - 1])
def test_an_mtu_that_cannot_be_is_an_error(mtu: int) -> None:
    path = Path(4)
    [order] = path.send(8000)
    assert path.refuse(order, mtu) == []
    assert len(path.told()) == 1


@BOTH
@pytest.mark.parametrize(("number", "info"), [(EMSGSIZE, 0), (EPROTO, MTU)])
def test_an_error_without_an_mtu_says_nothing_about_the_path(family: int, number: int, info: int) -> None:
    path = Path(family)
    [order] = path.send(8000)
    error = ExtendedError(number, ORIGIN_LOCAL, 0, 0, info, None)
    path.bench.network.datagram_failed(order.socket, order.remote, error, LARGE, path.bench.now)
    path.bench.wait(2)
    assert [order.fragment_here for order in path.send(1210)] == [True]


def test_a_flow_that_ended_meanwhile_is_no_mistake() -> None:
    path = Path(4)
    [order] = path.send(8000)
    path.refuse(order)
    error = ExtendedError(EHOSTUNREACH, ORIGIN_LOCAL, 0, 0, 0, None)
    path.bench.network.datagram_failed(order.socket, order.remote, error, b"", path.bench.now)
    path.bench.wait(1000)
    assert path.bench.network.statistics().flows["udp_flows"] == 0


def test_what_is_remembered_is_bounded() -> None:
    path = Path(4)
    for number in range(5000):
        path.remote = (0x5DB80000 + number).to_bytes(4, "big")
        [order] = path.send(1472)
        path.refuse(order, 1400, ORIGIN_ICMP)
        path.bench.now += 0.01
    assert len(path.bench.network._udp._path_mtu._told) == 4096


@BOTH
def test_the_largest_size_that_every_path_carries_is_never_tried(family: int) -> None:
    assert [order.fragment_here for order in Path(family).send(1232)] == [True]
    assert [is_strict(order) for order in Path(family).send(1233)] == [True]


@BOTH
def test_the_ttl_of_other_systems_is_no_traceroute(family: int) -> None:
    path = Path(family)
    [order] = path.send(8000, ttl=32)
    assert path.refuse(order)


@BOTH
def test_a_large_datagram_behind_a_small_answer_is_no_probe(family: int) -> None:
    """A search begins with 1200 bytes; this flow has carried less."""
    path = Path(family)
    [order] = path.send(1199)
    path.answer(order)
    [order] = path.send(1400)
    assert path.refuse(order)


@BOTH
def test_an_mtu_just_below_the_packet_counts_and_so_does_the_least_one(family: int) -> None:
    headers = 28 if family == 4 else 48
    path = Path(family)
    [order] = path.send(8000)
    assert path.refuse(order, 8000 + headers - 1)
    assert [is_strict(order) for order in path.send(8000, 8000 - 1)] == [False, False]
    other = Path(family)
    [order] = other.send(8000)
    assert other.refuse(order, 68)


@BOTH
def test_the_guest_is_told_a_moment_later(family: int) -> None:
    path = Path(family)
    [order] = path.send(8000)
    path.refuse(order)
    path.bench.wait(0.09)
    assert path.told() == []
    path.bench.wait(0.02)
    assert path.told() == [("echo reply", MTU)]


@BOTH
@pytest.mark.parametrize(("last", "told"), [(6144, []), (6143, [("echo reply", MTU)])])
def test_a_quarter_of_a_mebibyte_is_much(family: int, last: int, told: list[tuple[str, int]]) -> None:
    path = Path(family)
    [order] = path.send(8000)
    path.refuse(order)
    path.send(*[8000] * 31, last)
    path.bench.wait(0.2)
    assert path.told() == told


@BOTH
def test_a_packet_of_just_the_mtu_is_none_that_asks(family: int) -> None:
    """Another flow of the same path, which has become smaller."""
    path = Path(family)
    path.tell()
    path.port += 1
    [order] = path.send(MTU - (28 if family == 4 else 48))
    assert path.refuse(order, 1300)


@BOTH
def test_one_byte_more_than_the_guest_was_told_asks(family: int) -> None:
    path = Path(family)
    path.tell()
    most = MTU - (28 if family == 4 else 48)
    assert [is_strict(order) for order in path.send(most, most + 1)] == [False, True]


@BOTH
def test_a_program_that_asks_again_at_once_gets_an_error_again(family: int) -> None:
    path = Path(family)
    path.tell()
    for _ in range(3):
        [order] = path.send(8000)
        assert path.refuse(order) == []
        assert path.told() == [("datagram", MTU)]


@BOTH
def test_datagrams_that_were_on_their_way_when_a_path_became_smaller_are_sent(family: int) -> None:
    path = Path(family)
    path.tell()
    [order] = path.send(8000)
    assert path.refuse(order, 1300) == []
    [order] = path.send(1340)
    assert path.refuse(order, 1300)


def _wait_until_forgotten(path: Path) -> None:
    (told,) = path.bench.network._udp._path_mtu._told.values()
    path.bench.wait(told.until - path.bench.now - 0.001)
    path.bench.now = told.until


@BOTH
def test_what_the_guest_was_told_is_over_after_its_time(family: int) -> None:
    path = Path(family)
    path.tell()
    _wait_until_forgotten(path)
    [order] = path.send(8000)
    assert path.refuse(order)


@BOTH
def test_what_a_router_says_after_that_time_is_new(family: int) -> None:
    path = Path(family)
    path.tell()
    _wait_until_forgotten(path)
    [order] = path.send(8000)
    assert path.refuse(order, MTU, ORIGIN_ICMP if family == 4 else ORIGIN_ICMPV6) == []
    [order] = path.send(8000)
    assert path.refuse(order)
