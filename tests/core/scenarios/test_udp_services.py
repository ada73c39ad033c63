"""UDP services of the program: no host socket is opened for them."""

from __future__ import annotations

import struct
from errno import ECONNREFUSED

import pytest

from sansnet_core import (
    CloseSocket,
    DeliverDatagram,
    Dropped,
    Endpoint,
    FailDatagram,
    FlowClosed,
    FlowOpened,
    FlowReport,
    Limits,
    LinkConfig,
    OpenDatagram,
    Prefix,
    Reason,
    SendDatagram,
    SocketId,
    UsageError,
)
from sansnet_core.addresses import packed
from sansnet_core.records import replace
from sansnet_core.testing import GATEWAY, SERVER, SERVER6, make_config
from sansnet_core.testing.packets import GSO_UDP_L4, IPV4, Ip, ethernet, glue, icmp, udp
from tests.core.direct import GUEST, GUEST6, Direct

VIRTUAL = bytes((10, 9, 0, 1))
VIRTUAL6 = bytes.fromhex("fd000000000000000000000000000001")
PREFIXES = (Prefix.of("10.9.0.0/16"), Prefix.of("fd00::/64"))
FROM = Endpoint(GUEST, 5000)


def direct(**fields: object) -> Direct:
    return Direct(replace(make_config(), virtual=PREFIXES, **fields))


def serve(bench: Direct, prefix: Prefix | None = None, port: int | None = 53) -> SocketId:
    return bench.network.service_added(17, prefix, port, bench.now)


def datagram(data: bytes = b"hello", *, destination: bytes = VIRTUAL, port: int = 53, source_port: int = 5000) -> Ip:
    return udp(GUEST if len(destination) == 4 else GUEST6, source_port, destination, port, data)


@pytest.mark.parametrize("destination", [VIRTUAL, VIRTUAL6, GATEWAY], ids=["ipv4", "ipv6", "own"])
def test_a_datagram_to_a_service_is_delivered_and_answered(destination: bytes) -> None:
    bench = direct()
    service = serve(bench)
    sent = datagram(destination=destination)
    bench.send(sent)
    guest, remote = Endpoint(sent.source, 5000), Endpoint(destination, 53)
    assert bench.take() == [DeliverDatagram(service, guest, remote, b"hello", 0, 64, 0)]
    assert bench.notices == [FlowOpened(service, 17, guest, remote, remote, False, 1000.0)]
    assert bench.network.flows() == [FlowReport(service, 17, guest, remote, remote, False, "OPEN", 5, 0)]
    bench.network.service_sent(service, guest, remote, b"answer", bench.now)
    bench.collect()
    (answer,) = bench.packets
    assert (answer.source, answer.destination) == (destination, sent.source)
    assert answer.payload == udp(destination, 53, sent.source, 5000, b"answer").payload
    assert answer.ttl == 64
    assert bench.network.flows()[0].received == 6
    bench.wait(31)
    assert bench.network.flows() == []
    assert bench.notices[1:] == [FlowClosed(service, 17, guest, remote, remote, False, 5, 6, 0, 1030.0)]
    assert bench.take() == []
    assert bench.drops() == {}


def test_a_service_is_found_before_the_host() -> None:
    bench = direct()
    service = serve(bench, Prefix.of(SERVER), 7)
    bench.send(datagram(destination=SERVER, port=7), datagram(destination=SERVER, port=8))
    delivered, opened, sent = bench.take()
    assert isinstance(delivered, DeliverDatagram)
    assert delivered.socket == service
    assert isinstance(opened, OpenDatagram)
    assert isinstance(sent, SendDatagram)
    assert sent.remote == Endpoint(SERVER, 8)


def test_the_most_exact_service_is_found() -> None:
    bench = direct()
    everything = serve(bench, Prefix.of("0.0.0.0/0"), None)
    everywhere = serve(bench, Prefix.of("0.0.0.0/0"), 53)
    own = serve(bench, None, 53)
    network = serve(bench, Prefix.of("10.9.0.0/24"), None)
    host = serve(bench, Prefix.of("10.9.0.1"), 53)
    for destination, port, service in (
        (VIRTUAL, 53, host),
        (VIRTUAL, 54, network),
        (bytes((10, 9, 1, 1)), 53, everywhere),
        (bytes((10, 9, 1, 1)), 54, everything),
        (SERVER, 53, everywhere),
        (SERVER, 54, everything),
    ):
        bench.send(datagram(destination=destination, port=port))
        assert bench.one(DeliverDatagram).socket == service
    bench.send(datagram(destination=VIRTUAL6))
    assert bench.one(DeliverDatagram).socket == own


def test_a_run_is_delivered_as_a_run() -> None:
    bench = direct(link=LinkConfig(mtu=1500, max_frame_size=65535, vnet_header=True, checksum_offload=True, uso=True))
    service = serve(bench)
    head = struct.pack("<BBHHHHH", 1, GSO_UDP_L4, 42, 1000, 34, 6, 0)
    bench.send(datagram(bytes(3500)), head=head)
    assert bench.one(DeliverDatagram) == DeliverDatagram(service, FROM, Endpoint(VIRTUAL, 53), bytes(3500), 1000, 64, 0)
    for _ in range(3):
        bench.network.service_sent(service, FROM, Endpoint(VIRTUAL, 53), bytes(1000), bench.now)
    bench.collect()
    assert [len(packet.payload) for packet in bench.packets] == [3008]


@pytest.mark.parametrize("view", [bytes, memoryview])
def test_frames_may_be_views(view: type[bytes] | type[memoryview]) -> None:
    bench = direct()
    serve(bench)
    bench.send(datagram())
    frame = bench.config.mac + bytes.fromhex("020000000001") + b"\x08\x00" + datagram().emit()
    bench.network.receive_frames([view(frame)], bench.now)
    bench.collect()
    assert [bytes(order.data) for order in bench.take() if isinstance(order, DeliverDatagram)] == [b"hello"] * 2
    assert len(bench.network.flows()) == 1


@pytest.mark.parametrize("destination", [VIRTUAL, VIRTUAL6, GATEWAY], ids=["ipv4", "ipv6", "own"])
def test_without_a_service_a_virtual_address_is_refused_here(destination: bytes) -> None:
    bench = direct()
    serve(bench, None, 54)
    bench.send(datagram(destination=destination))
    assert bench.take() == []
    (error,) = bench.packets
    assert (error.source, error.payload[:2]) == (destination, b"\x03\x03" if len(destination) == 4 else b"\x01\x04")
    assert bench.drops() == {Reason.OWN_ADDRESS: 1}


def test_a_service_answers_where_the_guest_was_refused_before() -> None:
    bench = direct()
    bench.send(datagram())
    assert bench.drops() == {Reason.OWN_ADDRESS: 1}
    serve(bench)
    bench.send(datagram())
    bench.one(DeliverDatagram)


# the program begins


@pytest.mark.parametrize("source", [VIRTUAL, GATEWAY], ids=["virtual", "own"])
def test_the_program_sends_first(source: bytes) -> None:
    bench = direct()
    service = serve(bench)
    remote = Endpoint(source, 6000)
    bench.network.service_sent(service, FROM, remote, b"news", bench.now)
    bench.collect()
    (packet,) = bench.packets
    assert packet.payload == udp(source, 6000, GUEST, 5000, b"news").payload
    assert bench.notices == [FlowOpened(service, 17, FROM, remote, remote, True, 1000.0)]
    bench.send(datagram(b"thanks", destination=source, port=6000))
    assert bench.one(DeliverDatagram) == DeliverDatagram(service, FROM, remote, b"thanks", 0, 64, 0)
    assert bench.network.statistics().flows["udp_flows"] == 1


def test_the_program_sends_first_to_an_address_that_the_guest_was_seen_with() -> None:
    bench = Direct(replace(make_config(), virtual=("0.0.0.0/0", "::/0")))
    link_local = packed("fe80::15")
    service = serve(bench)
    bench.send(udp(link_local, 5000, packed("fe80::1"), 9, b"seen"))
    bench.collect()
    bench.packets.clear()
    bench.network.service_sent(service, Endpoint(link_local, 7), Endpoint("fe80::1", 8), b"news", bench.now)
    bench.collect()
    assert [packet.payload[8:] for packet in bench.packets] == [b"news"]


def test_a_service_in_front_of_the_internet_sends_from_its_place_only() -> None:
    bench = direct()
    service = serve(bench, Prefix.of("192.0.2.0/24"), 7)
    network = bench.network
    network.service_sent(service, FROM, Endpoint(SERVER, 7), b"from its place", bench.now)
    network.service_sent(service, FROM, Endpoint(SERVER, 8), b"from another port", bench.now)
    network.service_sent(service, FROM, Endpoint(bytes((198, 51, 100, 1)), 7), b"from elsewhere", bench.now)
    network.service_sent(service, FROM, Endpoint(VIRTUAL, 0), b"from port 0", bench.now)
    network.service_sent(service, FROM, Endpoint(SERVER6, 7), b"of another family", bench.now)
    bench.collect()
    assert [packet.payload[8:] for packet in bench.packets] == [b"from its place"]
    assert bench.drops() == {Reason.INBOUND_SOURCE: 4}


@pytest.mark.parametrize(
    "guest",
    [
        Endpoint(GUEST, 0),
        Endpoint(VIRTUAL, 5000),
        Endpoint(GATEWAY, 5000),
        Endpoint(bytes((224, 0, 0, 1)), 5000),
        Endpoint(bytes((127, 0, 0, 1)), 5000),
        Endpoint(bytes(4), 5000),
    ],
    ids=str,
)
def test_the_program_sends_to_the_guest_only(guest: Endpoint) -> None:
    bench = direct()
    bench.network.service_sent(serve(bench), guest, Endpoint(VIRTUAL, 53), b"x", bench.now)
    bench.collect()
    assert bench.packets == []
    assert bench.drops() == {Reason.INBOUND_GUEST: 1}


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_the_program_sends_to_families_that_the_guest_has(family: str) -> None:
    bench = direct(**{family: None})
    service = serve(bench, port=None)
    for guest, source in ((GUEST, VIRTUAL), (GUEST6, VIRTUAL6)):
        bench.network.service_sent(service, Endpoint(guest, 5000), Endpoint(source, 53), b"news", bench.now)
    bench.collect()
    has, lacks, source = (GUEST6, GUEST, VIRTUAL) if family == "ipv4" else (GUEST, GUEST6, VIRTUAL6)
    assert [report.guest.address for report in bench.network.flows()] == [has]
    dropped = Dropped(17, Endpoint(source, 53), Endpoint(lacks, 5000))
    assert bench.network.statistics().last_drops == {Reason.INBOUND_GUEST: (dropped,)}


def test_the_guests_station_is_asked_for() -> None:
    bench = direct()
    other = Endpoint(bytes((10, 0, 2, 99)), 5000)
    bench.network.service_sent(serve(bench), other, Endpoint(VIRTUAL, 53), b"x", bench.now)
    frame = glue(bench.network.take_frames()[0])
    assert frame[12:14] == b"\x08\x06"
    assert frame[38:42] == other.address


def test_a_flow_of_another_end_is_not_taken_over() -> None:
    bench = direct()
    first = serve(bench)
    second = serve(bench, None, 54)
    bench.send(datagram())
    bench.network.service_sent(second, FROM, Endpoint(VIRTUAL, 53), b"x", bench.now)
    bench.collect()
    assert bench.packets == []
    assert bench.drops() == {Reason.INBOUND_COLLISION: 1}
    bench.network.service_sent(first, FROM, Endpoint(VIRTUAL, 53), b"x", bench.now)
    bench.collect()
    assert len(bench.packets) == 1


def test_a_group_that_the_guest_sent_to_never_answers() -> None:
    bench = direct()
    group = bytes((224, 0, 0, 251))
    service = serve(bench, Prefix.of(group), 5353)
    bench.send(datagram(destination=group, port=5353))
    assert bench.one(DeliverDatagram).destination == Endpoint(group, 5353)
    bench.network.service_sent(service, FROM, Endpoint(group, 5353), b"x", bench.now)
    bench.network.service_sent(service, FROM, Endpoint(GATEWAY, 5353), b"x", bench.now)
    bench.collect()
    assert [packet.source for packet in bench.packets] == [GATEWAY]


@pytest.mark.parametrize("last", [255, 7], ids=["of all networks", "of another network of the guest"])
def test_a_broadcast_reaches_a_service_that_is_there(last: int) -> None:
    bench = direct()
    address = bytes((255,) * 4) if last == 255 else bytes((172, 16, 0, 7))
    broadcast = ethernet(b"\xff" * 6, bytes.fromhex("020000000001"), IPV4, datagram(destination=address).emit())
    service = serve(bench, Prefix.of(address), 53)
    bench.network.receive_frames([broadcast], bench.now)
    bench.collect()
    assert bench.one(DeliverDatagram).destination == Endpoint(address, 53)
    bench.network.service_removed(service, bench.now)
    bench.network.receive_frames([broadcast], bench.now)
    bench.collect()
    assert (bench.take(), bench.packets) == ([], [])
    assert bench.drops() == {Reason.IP_BROADCAST: 1}


def test_a_datagram_that_is_too_large_changes_nothing() -> None:
    bench = direct()
    service = serve(bench)
    with pytest.raises(UsageError, match="65507"):
        bench.network.service_sent(service, FROM, Endpoint(VIRTUAL, 53), bytes(65508), bench.now)
    assert bench.network.flows() == []
    bench.network.service_sent(service, FROM, Endpoint(VIRTUAL, 53), bytes(65507), bench.now)
    bench.collect()
    assert sum(len(packet.payload) for packet in bench.packets) == 65515


# limits and the end


def test_the_flows_of_a_service_have_the_limits_of_all_flows() -> None:
    bench = direct(limits=Limits(udp_flows=3, udp_inbound_flows=2))
    service = serve(bench)
    for port in range(5000, 5005):
        bench.send(datagram(source_port=port))
        bench.network.service_sent(service, Endpoint(GUEST, port), Endpoint(VIRTUAL, 99), b"x", bench.now)
        bench.collect()
    flows = bench.network.flows()
    assert [flow.inbound for flow in flows].count(False) == 3
    assert [flow.inbound for flow in flows].count(True) == 2
    assert bench.drops() == {Reason.UDP_LIMIT: 5}


def test_the_flows_of_a_service_end_with_it() -> None:
    bench = direct()
    service, other = serve(bench), serve(bench, None, 54)
    bench.send(datagram(), datagram(port=54))
    bench.take()
    bench.network.service_removed(service, bench.now)
    bench.collect()
    assert [flow.socket for flow in bench.network.flows()] == [other]
    bench.network.service_removed(service, bench.now)
    bench.network.service_sent(service, FROM, Endpoint(VIRTUAL, 53), b"late", bench.now)
    bench.send(datagram())
    assert bench.take() == []
    assert bench.drops() == {Reason.OWN_ADDRESS: 1}
    assert not [order for order in bench.orders if isinstance(order, CloseSocket)]


def test_no_host_socket_is_opened_before_a_datagram_leaves() -> None:
    bench = direct()
    serve(bench)
    closed = bytes((240, 0, 0, 1))
    bench.send(datagram(), datagram(destination=closed), datagram(port=54), datagram(b"", destination=GATEWAY, port=67))
    assert [type(order) for order in bench.take()] == [DeliverDatagram]
    bench.send(datagram(destination=SERVER))
    assert [type(order) for order in bench.take()] == [OpenDatagram, SendDatagram]


@pytest.mark.parametrize("port", [7, 53])
def test_a_prefix_that_becomes_virtual_is_never_sent_to_again(port: int) -> None:
    bench = Direct()
    bench.send(datagram(port=port))
    assert [type(order) for order in bench.take()] == [OpenDatagram, SendDatagram]
    bench.network.reconfigure(replace(make_config(), virtual=PREFIXES), bench.now)
    bench.send(datagram(port=port))
    assert [type(order) for order in bench.take()] == [CloseSocket]
    assert bench.drops() == {Reason.OWN_ADDRESS: 1}


# ICMP errors of the guest


def refuse(bench: Direct, sent: Ip, *, code: int | None = None, cut: int = 0) -> None:
    """The guest answers a datagram with "port unreachable", or "destination unreachable" with another code."""
    four = len(sent.source) == 4
    if code is None:
        code = 3 if four else 4
    quoted = sent.emit()
    body = bytes(4) + quoted[: len(quoted) - cut]
    bench.send(icmp(sent.destination, sent.source, 3 if four else 1, code, body))


@pytest.mark.parametrize("four", [True, False], ids=["ipv4", "ipv6"])
def test_the_program_is_told_that_the_guests_port_is_closed(*, four: bool) -> None:
    bench = direct()
    guest, source = (
        (Endpoint(GUEST, 7), Endpoint(VIRTUAL, 53)) if four else (Endpoint(GUEST6, 7), Endpoint(VIRTUAL6, 53))
    )
    service = serve(bench)
    bench.network.service_sent(service, guest, source, b"anyone?", bench.now)
    bench.collect()
    bench.take()
    sent = bench.packets[-1]
    for code in (0, 1):
        refuse(bench, sent, code=code)
    assert bench.take() == []
    for _ in range(2):
        refuse(bench, sent)
        assert bench.take() == [FailDatagram(service, guest, source, ECONNREFUSED)]
    assert bench.drops() == {Reason.ICMP_TYPE: 2}
    assert len(bench.network.flows()) == 1, "one failure does not end a flow"


def test_other_errors_about_datagrams_are_counted() -> None:
    bench = direct()
    service = serve(bench)
    bench.send(datagram())  # a flow that the program has not sent anything to
    bench.take()
    refuse(bench, udp(VIRTUAL, 53, GUEST, 5000, b"never sent"))
    refuse(bench, udp(VIRTUAL, 54, GUEST, 5000, b"no such flow"))
    bench.network.service_sent(service, FROM, Endpoint(VIRTUAL, 53), b"answer", bench.now)
    refuse(bench, udp(VIRTUAL, 53, GUEST, 5000, b"answer"), cut=7)  # one byte of UDP's header is missing
    assert bench.take() == []
    assert bench.drops() == {Reason.ICMP_TYPE: 3}
    bench.network.service_removed(service, bench.now)
    refuse(bench, udp(VIRTUAL, 53, GUEST, 5000, b"answer"))
    assert bench.take() == []


def test_a_flow_of_the_host_is_not_told() -> None:
    bench = direct()
    bench.send(udp(GUEST, 5000, SERVER, 53, b"hello"))
    order = bench.take()[0]
    assert isinstance(order, OpenDatagram)
    bench.network.datagram_received(order.socket, Endpoint(SERVER, 53), b"answer", 0, 64, 0, bench.now)
    refuse(bench, udp(SERVER, 53, GUEST, 5000, b"answer"))
    assert bench.take() == []
    assert bench.drops() == {Reason.ICMP_TYPE: 1}


def test_the_program_begins_no_flow_if_udp_is_off() -> None:
    bench = direct(udp=False)
    service = serve(bench)
    bench.network.service_sent(service, Endpoint(GUEST, 5000), Endpoint(VIRTUAL, 53), b"news", bench.now)
    bench.collect()
    assert (bench.packets, bench.network.flows()) == ([], [])
    assert bench.drops() == {Reason.PROTOCOL_CLOSED: 1}
