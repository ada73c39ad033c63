"""UDP between a guest and a host, through the whole network."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core import (
    CloseSocket,
    Endpoint,
    ExtendedError,
    FlowClosed,
    FlowOpened,
    Limits,
    LinkConfig,
    Network,
    OpenDatagram,
    Order,
    Reason,
    SendDatagram,
    SocketId,
)
from sansnet_core.records import replace
from sansnet_core.testing import SECRET, SERVER, SERVER6, Pair, make_config, packets
from sansnet_core.testing.packets import Ip, fragments, glue, udp

DNS_ALIAS = bytes((10, 0, 2, 3))
STUB_RESOLVER = bytes((127, 0, 0, 53))
SSDP = bytes((239, 255, 255, 250))
GUEST = bytes((10, 0, 2, 15))
GUEST6 = bytes.fromhex("20010db8000000000000000000000015")


def datagram(data: bytes, *, source_port: int = 5000, destination: bytes = SERVER, port: int = 7) -> Ip:
    return udp(GUEST if len(destination) == 4 else GUEST6, source_port, destination, port, data)


def offloaded_run(data: bytes, segment_size: int) -> bytes:
    """A frame with segmentation and checksum offload."""
    head = struct.pack("<BBHHHHH", 1, packets.GSO_UDP_L4, 42, segment_size, 34, 6, 0)
    return head + packets.ethernet(
        make_config().mac, bytes.fromhex("020000000001"), packets.IPV4, datagram(data).emit()
    )


@pytest.mark.parametrize("server", [SERVER, SERVER6], ids=["ipv4", "ipv6"])
def test_a_question_and_its_answer(server: bytes) -> None:
    pair = Pair()
    pair.guest.send(datagram(b"question", destination=server))
    pair.settle()
    (order,) = pair.host.datagrams
    assert (order.remote, order.data, order.ttl) == (Endpoint(server, 7), b"question", 64)
    pair.host.datagram(order.socket, order.remote, b"answer", pair.now)
    pair.settle()
    ((ip, source_port, destination_port, data),) = pair.guest.datagrams
    assert (ip.source, source_port, destination_port, data) == (server, 7, 5000, b"answer")


def test_the_first_deadline_is_that_of_an_idle_flow() -> None:
    pair = Pair()
    pair.guest.send(datagram(b"question"))
    pair.settle()
    assert pair.network.next_deadline() == pair.now + Limits().udp_idle_once


def test_a_name_is_looked_up_at_a_resolver_on_the_hosts_loopback() -> None:
    pair = Pair(replace(make_config(), dns_forward=((DNS_ALIAS, Endpoint(STUB_RESOLVER, 53)),)))
    pair.guest.send(datagram(b"example.org?", destination=DNS_ALIAS, port=53))
    pair.settle()
    (order,) = pair.host.datagrams
    assert order.remote == Endpoint(STUB_RESOLVER, 53)
    pair.host.datagram(order.socket, order.remote, b"example.org!", pair.now)
    pair.settle()
    ((ip, _, _, data),) = pair.guest.datagrams
    assert (ip.source, data) == (DNS_ALIAS, b"example.org!")


def test_a_name_server_at_another_port_is_reached_by_its_own_port_too() -> None:
    alias, server = DNS_ALIAS, Endpoint(bytes((127, 0, 0, 1)), 5353)
    config = replace(make_config(), dns_forward=((alias, server),), map_host_loopback=(alias,))
    pair = Pair(config)
    for port in (53, server.port):
        pair.guest.send(datagram(b"?", destination=alias, port=port))
    pair.settle()
    first, second = pair.host.datagrams
    assert first.remote == second.remote == server
    for order in (first, second):
        pair.host.datagram(order.socket, server, b"!", pair.now)
    pair.settle()
    assert [source_port for _, source_port, _, _ in pair.guest.datagrams] == [53, server.port]
    pair.wait(300)
    assert pair.network.statistics().flows["udp_flows"] == 0
    assert not pair.host.datagram_sockets


def test_media_servers_answer_a_search() -> None:
    pair = Pair()
    pair.guest.send(datagram(b"M-SEARCH", destination=SSDP, port=1900))
    pair.settle()
    (order,) = pair.host.datagrams
    for number in (1, 2):
        pair.host.datagram(order.socket, Endpoint(bytes((192, 0, 2, number)), 40000), b"here", pair.now)
    pair.settle()
    assert [ip.source[3] for ip, *_ in pair.guest.datagrams] == [1, 2]


def test_a_datagram_in_fragments_is_sent_whole() -> None:
    pair = Pair()
    for part in fragments(datagram(bytes(range(256)) * 16), 1024):
        pair.guest.send(part)
    pair.settle()
    assert [order.data for order in pair.host.datagrams] == [bytes(range(256)) * 16]


def test_a_datagram_larger_than_the_mtu_reaches_the_guest_in_fragments() -> None:
    pair = Pair()
    pair.guest.send(datagram(b"?"))
    pair.settle()
    answer = bytes(range(256)) * 100
    pair.host.datagram(SocketId(1), Endpoint(SERVER, 7), answer, pair.now)
    pair.settle()
    parts = [packets.read_ip(frame) for frame in pair.guest.others]
    whole = udp(SERVER, 7, GUEST, 5000, answer)
    assert b"".join(part.payload for part in parts) == whole.payload
    assert pair.guest.max_frame_size <= 1514


def test_offloaded_runs_pass_as_runs_both_ways() -> None:
    link = LinkConfig(mtu=1500, vnet_header=True, checksum_offload=True, uso=True)
    pair = Pair(make_config(link))
    pair.network.receive_frames([offloaded_run(bytes(3000), 1000)], pair.now)
    pair.settle()
    pair.host.obey(pair.network.take_orders(), pair.now)
    (order,) = pair.host.datagrams
    assert (order.segment_size, len(order.data)) == (1000, 3000)
    pair.host.datagram(order.socket, order.remote, bytes(2500), pair.now, 1000)
    pair.settle()
    assert [len(data) for *_, data in pair.guest.datagrams] == [1000, 1000, 500]
    assert pair.guest.segmented_frames == 1


def test_a_frame_after_an_offloaded_run_is_one_datagram_again() -> None:
    pair = Pair(make_config(LinkConfig(mtu=1500, vnet_header=True)))
    pair.network.receive_frames([offloaded_run(bytes(3000), 1000)], pair.now)
    pair.guest.send(datagram(bytes(2000)))
    pair.settle()
    assert [order.segment_size for order in pair.host.datagrams] == [1000, 0]


def test_a_flow_is_noticed_twice() -> None:
    pair = Pair(replace(make_config(), notices=True))
    pair.guest.send(datagram(b"four"))
    pair.wait(31)
    guest, remote = Endpoint(GUEST, 5000), Endpoint(SERVER, 7)
    assert pair.notices == [
        FlowOpened(SocketId(1), 17, guest, remote, remote, time=1000.0),
        FlowClosed(SocketId(1), 17, guest, remote, remote, False, 4, 0, 0, 1030.0),
    ]
    assert pair.host.closed == {SocketId(1)}


@pytest.mark.parametrize("answered", [False, True])
def test_a_failure_is_why_a_flow_without_answers_ended(answered: bool) -> None:
    pair = Pair()
    pair.guest.send(datagram(b"four"))
    pair.settle()
    (order,) = pair.host.datagrams
    error = ExtendedError(errno.ECONNREFUSED, 2, 3, 3, 0, SERVER)
    pair.network.datagram_failed(order.socket, order.remote, error, b"four", pair.now)
    if answered:
        pair.host.datagram(order.socket, order.remote, b"late", pair.now)
    pair.wait(31)
    closed = pair.notices[-1]
    assert isinstance(closed, FlowClosed)
    assert closed.errno == (0 if answered else errno.ECONNREFUSED)


def test_a_refusal_is_counted_and_the_next_datagram_is_sent() -> None:
    pair = Pair()
    pair.guest.send(datagram(b"1"))
    pair.settle()
    refused = ExtendedError(111, 2, 3, 3, 0, SERVER)
    pair.network.datagram_failed(SocketId(1), Endpoint(SERVER, 7), refused, b"1", pair.now)
    pair.guest.send(datagram(b"2"))
    pair.settle()
    assert pair.network.statistics().drops == {Reason.HOST_SEND: 1}
    assert [order.data for order in pair.host.datagrams] == [b"1", b"2"]


@pytest.mark.slow
def test_a_scan_of_all_ports_holds_no_more_than_the_limit_and_ends_in_nothing() -> None:
    pair = Pair(make_config(limits=Limits(udp_flows=100)))
    for port in range(1, 65536):
        pair.guest.send(datagram(b"", source_port=port, port=port))
    pair.settle()
    assert len(pair.host.datagrams) == 65534, "all but the port of the DHCP server"
    flows = pair.network.statistics().flows
    assert (flows["udp_flows"], flows["udp_sockets"]) == (100, 100)
    assert len(pair.host.datagram_sockets) == 100
    pair.wait(40)
    assert pair.network.statistics().flows["udp_flows"] == 0
    assert pair.host.datagram_sockets == {}


@given(
    datagrams=st.lists(
        st.tuples(st.integers(5000, 5002), st.sampled_from([SERVER, SSDP, DNS_ALIAS, SERVER6]), st.integers(0, 3)),
        max_size=20,
    ),
    cuts=st.lists(st.integers(0, 20), max_size=4),
)
def test_batches_do_not_matter(datagrams: list[tuple[int, bytes, int]], cuts: list[int]) -> None:
    frames = []
    for source_port, destination, port in datagrams:
        ip = datagram(b"x", source_port=source_port, destination=destination, port=port)
        ethertype = packets.IPV4 if ip.version == 4 else packets.IPV6
        frames.append(packets.ethernet(make_config().mac, bytes.fromhex("020000000001"), ethertype, ip.emit()))
    config = make_config(limits=Limits(udp_flows=3))

    def outputs(ends: list[int]) -> tuple[list[Order], list[bytes]]:
        network = Network(config, now=0.0, secret=SECRET)
        orders, out = [], []
        for start, end in zip([0, *ends], [*ends, len(frames)], strict=True):
            network.receive_frames(frames[start:end], 0.0)
            orders += network.take_orders()
            out += [glue(frame) for frame in network.take_frames()]
        return orders, out

    whole = outputs([])
    assert whole == outputs(sorted(min(cut, len(frames)) for cut in cuts))
    kinds = {type(order) for order in whole[0]}
    assert kinds <= {OpenDatagram, SendDatagram, CloseSocket}


_OFFLOADED = LinkConfig(mtu=1500, max_frame_size=65549, vnet_header=True, checksum_offload=True, uso=True)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),  # number of the flow
            st.sampled_from([0, 1, 100, 1472, 1473, 9000]),  # bytes of a datagram
            st.sampled_from([0, 3]),  # further datagrams of the same run
            st.sampled_from([64, 63]),  # TTL
        ),
        max_size=30,
    )
)
def test_the_guest_gets_the_same_datagrams_however_frames_join_them(arrivals: list[tuple[int, int, int, int]]) -> None:
    seen = []
    for link in (_OFFLOADED, LinkConfig(mtu=1500, vnet_header=True, max_frame_size=65549)):
        pair = Pair(make_config(link))
        for port in (1001, 1002):
            pair.guest.send(datagram(b"hello", source_port=port))
        pair.settle()
        sockets = [order.socket for order in pair.host.datagrams]
        for number, (flow, size, more, ttl) in enumerate(arrivals):
            data = bytes([number]) * (size * (more + 1) + (size // 2 if more else 0))
            segment_size = size if more and size else 0
            pair.network.datagram_received(sockets[flow], Endpoint(SERVER, 7), data, segment_size, ttl, 0, pair.now)
        for frame in pair.network.take_frames():
            pair.guest.receive(glue(frame), pair.now)
        whole = [(ip.ttl, destination, data) for ip, _, destination, data in pair.guest.datagrams]
        seen.append((whole, len(pair.guest.others)))
    assert seen[0] == seen[1]


def test_equal_datagrams_in_a_row_cost_one_frame() -> None:
    pair = Pair(make_config(_OFFLOADED))
    pair.guest.send(datagram(b"hello"))
    pair.settle()
    (order,) = pair.host.datagrams
    for number in range(100):
        pair.network.datagram_received(order.socket, order.remote, bytes([number]) * 100, 0, 64, 0, pair.now)
    frames = pair.network.take_frames()
    assert len(frames) == 2  # 64 datagrams, and the rest
    for frame in frames:
        pair.guest.receive(glue(frame), pair.now)
    assert [data[0] for _, _, _, data in pair.guest.datagrams] == list(range(100))


def opened_port(pair: Pair, port: int) -> int:
    """The port that the host's socket for a port of the guest is to be bound to."""
    pair.guest.send(datagram(b"!", source_port=port))
    pair.settle()
    [found] = [order.local.port for order in pair.host.orders if isinstance(order, OpenDatagram)]
    return found


@pytest.mark.parametrize(("port", "bound"), [(5000, 5000), (5353, 0), (4789, 0), (51820, 0), (1194, 0)])
def test_a_guest_takes_no_port_that_services_of_the_host_are_known_for(port: int, bound: int) -> None:
    assert opened_port(Pair(), port) == bound


def test_the_ports_that_a_guest_does_not_take_can_be_others() -> None:
    assert opened_port(Pair(replace(make_config(), reserved_udp_ports=())), 5353) == 5353
    assert opened_port(Pair(replace(make_config(), reserved_udp_ports=(5000,))), 5000) == 0


def test_a_guest_keeps_such_a_port_if_it_is_forwarded() -> None:
    pair = Pair()
    socket = pair.host.forward(5353, pair.now, outgoing=(4,))
    pair.guest.send(datagram(b"!", source_port=5353))
    pair.settle()
    assert [order.socket for order in pair.host.datagrams] == [socket]


def test_the_answers_to_a_port_that_is_not_kept_reach_the_guest() -> None:
    pair = Pair()
    pair.guest.send(datagram(b"question", source_port=5353))
    pair.settle()
    [order] = pair.host.datagrams
    pair.host.datagram(order.socket, order.remote, b"answer", pair.now)
    pair.settle()
    [(_, _, port, data)] = pair.guest.datagrams
    assert (port, data) == (5353, b"answer")
