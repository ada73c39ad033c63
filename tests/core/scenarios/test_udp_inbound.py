"""Datagrams from outside to a forwarded port."""

from __future__ import annotations

from errno import ECONNREFUSED

import pytest

from sansnet_core import (
    Action,
    CloseSocket,
    Dropped,
    Endpoint,
    ExtendedError,
    FlowClosed,
    FlowOpened,
    FlowReport,
    Limits,
    LinkConfig,
    OpenDatagram,
    Reason,
    Rule,
    SendDatagram,
    SocketId,
)
from sansnet_core.records import replace
from sansnet_core.testing import GATEWAY, OUTSIDER, OUTSIDER6, SERVER, Pair, make_config
from sansnet_core.testing.packets import Ip, udp

LOCAL = bytes((203, 0, 113, 5))
LOCAL6 = bytes.fromhex("20010db8dddd00000000000000000005")
PORT = 5300


def outsider(number: int) -> Endpoint:
    return Endpoint(OUTSIDER.address, 1000 + number)


def answer(pair: Pair, data: bytes, remote: Endpoint = OUTSIDER, *, port: int = PORT) -> list[SendDatagram]:
    """The orders for a datagram that the guest sends from a port."""
    before = len(pair.host.datagrams)
    pair.guest.send(udp(pair.guest.address(len(remote.address)), port, *remote, data))
    pair.settle()
    return pair.host.datagrams[before:]


def arrives(pair: Pair, socket: SocketId, source: Endpoint, data: bytes = b"?", local: bytes | None = None) -> list[Ip]:
    """The packets to the guest for a datagram from outside."""
    before = len(pair.guest.datagrams)
    pair.host.datagram(socket, source, data, pair.now, local=local)
    pair.settle()
    return [packet for packet, *_ in pair.guest.datagrams[before:]]


@pytest.mark.parametrize(("remote", "local"), [(OUTSIDER, LOCAL), (OUTSIDER6, LOCAL6)])
def test_a_question_reaches_the_guest_and_the_answer_leaves_from_where_it_was_asked(
    remote: Endpoint, local: bytes
) -> None:
    pair = Pair()
    socket = pair.host.forward(PORT, pair.now)
    arrives(pair, socket, remote, b"question", local)
    [(packet, source_port, port, data)] = pair.guest.datagrams
    guest = pair.guest.address(len(local))
    assert (packet.source, source_port, packet.destination, port, data) == (*remote, guest, PORT, b"question")

    assert answer(pair, b"answer", remote) == [SendDatagram(socket, remote, b"answer", 0, 64, 0, False, local)]
    assert not [order for order in pair.host.orders if isinstance(order, OpenDatagram)]


def test_ttl_and_tos_pass() -> None:
    pair = Pair()
    socket = pair.host.forward(PORT, pair.now)
    pair.network.datagram_received(socket, OUTSIDER, b"?", 0, 17, 0xB8, pair.now)
    pair.settle()
    [(packet, *_)] = pair.guest.datagrams

    assert (packet.ttl, packet.tos) == (17, 0xB8)


def test_the_answer_leaves_from_where_was_asked_last() -> None:
    pair = Pair()
    socket = pair.host.forward(PORT, pair.now)
    arrives(pair, socket, OUTSIDER, local=LOCAL)
    arrives(pair, socket, OUTSIDER, local=SERVER)

    assert [order.local for order in answer(pair, b"!")] == [SERVER]


def test_outsiders_do_not_mix() -> None:
    pair = Pair()
    socket = pair.host.forward(PORT, pair.now)
    for number in range(20):
        arrives(pair, socket, outsider(number), b"%d" % number)
    for number in reversed(range(20)):
        [order] = answer(pair, b"%d" % number, outsider(number))
        assert (order.remote, order.data) == (outsider(number), b"%d" % number)


def test_a_run_of_datagrams_stays_one_where_the_link_takes_it() -> None:
    link = LinkConfig(mtu=1500, max_frame_size=65549, vnet_header=True, checksum_offload=True, uso=True)
    pair = Pair(make_config(link))
    socket = pair.host.forward(PORT, pair.now)
    pair.host.datagram(socket, OUTSIDER, bytes(2500), pair.now, 1000)
    pair.settle()

    assert [len(data) for *_, data in pair.guest.datagrams] == [1000, 1000, 500]
    assert pair.guest.segmented_frames == 1


def test_an_address_of_the_guest_can_be_given() -> None:
    other = bytes((172, 17, 0, 2))
    pair = Pair()
    socket = pair.host.forward(PORT, pair.now, guest_address=other)

    assert [packet.destination for packet in arrives(pair, socket, OUTSIDER)] == [other]
    assert arrives(pair, socket, OUTSIDER6) == []
    assert pair.network.statistics().drops == {Reason.INBOUND_GUEST: 1}


def test_a_guest_that_changes_its_address_is_found_again_by_the_same_outsider() -> None:
    pair = Pair()
    socket = pair.host.forward(PORT, pair.now)
    arrives(pair, socket, OUTSIDER)
    pair.guest.ipv4 = bytes((10, 0, 2, 99))
    answer(pair, b"hello", Endpoint(SERVER, 7), port=9999)

    assert [packet.destination for packet in arrives(pair, socket, OUTSIDER)] == [pair.guest.ipv4]
    assert [order.socket for order in answer(pair, b"!")] == [socket]
    assert pair.network.statistics().flows["udp_flows"] == 2


def test_a_guest_with_several_addresses_is_asked_where_it_answers() -> None:
    """IPv6 hosts also have temporary addresses (RFC 8981); a server's connected socket receives at one address only."""
    pair = Pair()
    socket = pair.host.forward(PORT, pair.now)
    asked = pair.guest.ipv4
    arrives(pair, socket, OUTSIDER)
    answer(pair, b"!")
    pair.guest.ipv4 = bytes((10, 0, 2, 99))
    answer(pair, b"something else", Endpoint(SERVER, 7), port=9999)
    assert [packet.destination for packet in arrives(pair, socket, OUTSIDER)] == [asked]

    pair.wait(20)
    assert [packet.destination for packet in arrives(pair, socket, OUTSIDER)] == [asked]
    pair.wait(20)
    assert [packet.destination for packet in arrives(pair, socket, OUTSIDER)] == [pair.guest.ipv4]


def test_an_error_about_an_answer_is_told_to_the_guest() -> None:
    pair = Pair()
    socket = pair.host.forward(PORT, pair.now)
    arrives(pair, socket, OUTSIDER)
    answer(pair, b"!")
    error = ExtendedError(ECONNREFUSED, 2, 3, 3, 0, OUTSIDER.address)
    pair.network.datagram_failed(socket, OUTSIDER, error, b"!", pair.now)
    pair.settle()

    assert len(pair.guest.others) == 1


# refused datagrams


def refused(pair: Pair, socket: SocketId, reason: Reason, source: Endpoint = OUTSIDER) -> None:
    before = pair.network.statistics().drops.get(reason, 0)
    assert arrives(pair, socket, source) == []
    assert pair.network.statistics().drops[reason] == before + 1


def test_the_hosts_loopback_is_seen_as_the_gateway_and_two_of_it_cannot_be_told_apart() -> None:
    pair = Pair()
    socket = pair.host.forward(PORT, pair.now)
    [packet] = arrives(pair, socket, Endpoint(bytes((127, 0, 0, 1)), 1000))
    assert packet.source == GATEWAY

    refused(pair, socket, Reason.INBOUND_COLLISION, Endpoint(bytes((127, 0, 0, 2)), 1000))


def test_a_sender_for_whom_there_is_no_address_is_refused() -> None:
    ipv4 = make_config().ipv4
    assert ipv4
    pair = Pair(replace(make_config(), ipv4=replace(ipv4, gateway=None)))

    refused(pair, pair.host.forward(PORT, pair.now), Reason.INBOUND_SOURCE, Endpoint(bytes((127, 0, 0, 1)), 1000))


def test_a_guest_without_an_address_is_a_refusal() -> None:
    pair = Pair(replace(make_config(), ipv6=None))

    refused(pair, pair.host.forward(PORT, pair.now), Reason.INBOUND_GUEST, OUTSIDER6)


def test_a_protocol_that_is_off_is_a_refusal() -> None:
    pair = Pair(replace(make_config(), udp=False))

    refused(pair, pair.host.forward(PORT, pair.now), Reason.PROTOCOL_CLOSED)


def test_a_flow_of_the_guest_with_the_same_ends_stays() -> None:
    pair = Pair()
    [own] = answer(pair, b"first")
    socket = pair.host.forward(PORT, pair.now)
    refused(pair, socket, Reason.INBOUND_COLLISION)

    assert [order.socket for order in answer(pair, b"second")] == [own.socket]


# limits and time


def test_outsiders_push_each_other_out_and_never_the_guests_own_flows() -> None:
    pair = Pair(make_config(limits=Limits(udp_flows=3, udp_inbound_flows=5)))
    for port in range(3):
        answer(pair, b"own", Endpoint(SERVER, 7), port=100 + port)
    socket = pair.host.forward(PORT, pair.now)
    for number in range(50):
        pair.wait(0.001)
        assert len(arrives(pair, socket, outsider(number))) == 1

    flows = pair.network.flows()
    assert [flow.guest.port for flow in flows if not flow.inbound] == [100, 101, 102]
    assert [flow.remote for flow in flows if flow.inbound] == [outsider(number) for number in range(45, 50)]
    assert pair.network.statistics().drops == {Reason.UDP_LIMIT: 45}


def test_the_guests_own_flows_push_no_outsider_out() -> None:
    pair = Pair(make_config(limits=Limits(udp_flows=3, udp_inbound_flows=5)))
    socket = pair.host.forward(PORT, pair.now)
    arrives(pair, socket, OUTSIDER)
    for port in range(10):
        answer(pair, b"own", Endpoint(SERVER, 7), port=100 + port)

    assert [order.socket for order in answer(pair, b"!")] == [socket]


def test_a_flow_without_an_answer_ends_early_and_one_with_answers_later() -> None:
    pair = Pair()
    socket = pair.host.forward(PORT, pair.now)
    for _ in range(5):
        arrives(pair, socket, outsider(1))
        arrives(pair, socket, outsider(2))
    answer(pair, b"!", outsider(2))
    pair.wait(32)
    assert [flow.remote for flow in pair.network.flows()] == [outsider(2)]
    pair.wait(150)
    assert pair.network.flows() == []
    assert not [order for order in pair.host.orders if isinstance(order, CloseSocket)]
    assert len(arrives(pair, socket, outsider(1))) == 1


def test_flows_are_noticed_and_listed() -> None:
    loopback = Endpoint(bytes((127, 0, 0, 1)), 1000)
    pair = Pair()
    socket = pair.host.forward(PORT, pair.now)
    arrives(pair, socket, loopback, b"four")
    guest, remote = Endpoint(pair.guest.ipv4, PORT), Endpoint(GATEWAY, 1000)

    assert pair.notices == [FlowOpened(socket, 17, guest, remote, loopback, True, 1000.0)]
    assert pair.network.flows() == [FlowReport(socket, 17, guest, remote, loopback, True, "OPEN", 0, 4)]
    pair.wait(32)
    assert pair.notices[1:] == [FlowClosed(socket, 17, guest, remote, loopback, True, 0, 4, 0, 1030.0)]


# the end of a forward


def test_a_forward_that_is_removed_takes_its_flows_along_and_leaves_others() -> None:
    pair = Pair()
    socket = pair.host.forward(PORT, pair.now)
    other = pair.host.forward(PORT + 1, pair.now)
    arrives(pair, socket, OUTSIDER)
    arrives(pair, other, OUTSIDER)
    pair.host.remove_forward(socket, pair.now)
    pair.settle()

    assert [flow.socket for flow in pair.network.flows()] == [other]
    pair.network.datagram_received(socket, OUTSIDER, b"late", 0, 64, 0, pair.now)
    pair.settle()
    assert len(pair.guest.datagrams) == 2, "a fact about a socket that is gone is a race, and ignored"
    [order] = answer(pair, b"!")
    assert order.socket not in (socket, other)


def test_removing_what_is_no_forward_changes_nothing() -> None:
    pair = Pair()
    [own] = answer(pair, b"first")
    pair.network.forward_removed(own.socket, pair.now)
    pair.network.forward_removed(SocketId(99), pair.now)

    assert [order.socket for order in answer(pair, b"second")] == [own.socket]


# flows that the guest begins from a forwarded port


def test_what_the_guest_begins_from_the_port_leaves_by_the_same_socket() -> None:
    pair = Pair()
    socket = pair.host.forward(PORT, pair.now, outgoing=(4,))

    assert answer(pair, b"first") == [SendDatagram(socket, OUTSIDER, b"first", 0, 64, 0, False, None)]
    assert len(arrives(pair, socket, OUTSIDER, b"reply", LOCAL)) == 1
    assert [flow.inbound for flow in pair.network.flows()] == [False]
    pair.wait(200)
    assert pair.network.flows() == []
    assert not [order for order in pair.host.orders if isinstance(order, CloseSocket | OpenDatagram)]


def test_what_the_guest_begins_leaves_from_the_address_that_all_of_it_is_to_leave_from() -> None:
    pair = Pair(replace(make_config(), outbound4=SERVER))
    socket = pair.host.forward(PORT, pair.now, outgoing=(4,))
    assert [(order.socket, order.local) for order in answer(pair, b"first")] == [(socket, SERVER)]

    arrives(pair, socket, OUTSIDER, local=LOCAL)
    assert [order.local for order in answer(pair, b"then")] == [LOCAL]


@pytest.mark.parametrize(
    ("remote", "port"), [(OUTSIDER6, PORT), (OUTSIDER, PORT + 1), (Endpoint(bytes((239, 255, 255, 250)), 1900), PORT)]
)
def test_another_family_another_port_and_groups_have_the_guests_own_socket(remote: Endpoint, port: int) -> None:
    pair = Pair()
    socket = pair.host.forward(PORT, pair.now, outgoing=(4,))
    [order] = answer(pair, b"!", remote, port=port)

    assert order.socket != socket


def test_a_translated_destination_has_the_guests_own_socket() -> None:
    """Otherwise an answer from the host's loopback could belong to two flows."""
    alias = bytes((10, 0, 2, 3))
    pair = Pair(replace(make_config(), map_host_loopback=(alias,)))
    socket = pair.host.forward(PORT, pair.now, outgoing=(4,))
    [order] = answer(pair, b"!", Endpoint(alias, 53))

    assert order.socket != socket


def test_a_forward_to_one_address_of_the_guest_serves_that_address_alone() -> None:
    pair = Pair()
    elsewhere = pair.host.forward(PORT, pair.now, guest_address=bytes((10, 0, 2, 99)), outgoing=(4,))
    [order] = answer(pair, b"!")
    assert order.socket != elsewhere


def test_of_two_forwards_the_first_serves_until_it_is_removed() -> None:
    pair = Pair()
    first = pair.host.forward(PORT, pair.now, outgoing=(4, 16))
    second = pair.host.forward(PORT, pair.now, outgoing=(4, 16))
    assert [order.socket for order in answer(pair, b"!")] == [first]
    pair.host.remove_forward(first, pair.now)
    third = pair.host.forward(PORT, pair.now, outgoing=(4, 16))

    assert [order.socket for order in answer(pair, b"!")] == [third]
    assert second != third


def test_a_guest_that_begins_again_from_its_new_address_gets_the_answers() -> None:
    pair = Pair()
    socket = pair.host.forward(PORT, pair.now, outgoing=(4,))
    arrives(pair, socket, OUTSIDER, local=LOCAL)
    pair.guest.ipv4 = bytes((10, 0, 2, 99))
    assert [(order.socket, order.local) for order in answer(pair, b"!")] == [(socket, LOCAL)]

    assert [packet.destination for packet in arrives(pair, socket, OUTSIDER)] == [pair.guest.ipv4]
    assert len(pair.network.flows()) == 1


def test_what_the_guest_begins_from_the_port_is_reported_with_its_rule() -> None:
    pair = Pair(replace(make_config(), rules=(Rule(action=Action.ALLOW, label="all"),)))
    pair.host.forward(PORT, pair.now, outgoing=(4,))
    answer(pair, b"x")
    assert [notice.rule for notice in pair.notices if isinstance(notice, FlowOpened)] == ["all"]


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("config", [{"udp": False}, {"ipv4": None}])
def test_an_outsider_that_cannot_be_let_in_is_reported_with_the_port_that_it_sent_to(
    fixed: bool, config: dict[str, object]
) -> None:
    pair = Pair(replace(make_config(), **config))
    guest = bytes((10, 0, 2, 15))
    socket = pair.network.forward_added(guest if fixed else None, PORT, pair.now)
    pair.network.datagram_received(socket, OUTSIDER, b"x", 0, 64, 0, pair.now)
    ((dropped,),) = pair.network.statistics().last_drops.values()
    assert dropped == Dropped(17, OUTSIDER, Endpoint(guest if fixed else bytes(4), PORT))


def test_an_outsider_is_known_to_a_fixed_address_of_the_guest_without_an_answer() -> None:
    pair = Pair()
    socket = pair.network.forward_added(bytes((10, 0, 2, 77)), PORT, pair.now)
    for _ in range(3):
        pair.network.datagram_received(socket, OUTSIDER, b"x", 0, 64, 0, pair.now)
        pair.wait(29)
    pair.settle()
    assert len([notice for notice in pair.notices if isinstance(notice, FlowOpened)]) == 1


@pytest.mark.parametrize(("silence", "opened"), [(29.9, 1), (30.0, 2)])
def test_an_outsider_is_led_to_the_guests_new_address_when_the_old_one_is_silent(silence: float, opened: int) -> None:
    pair = Pair()
    socket = pair.host.forward(PORT, pair.now)
    arrives(pair, socket, OUTSIDER)
    answer(pair, b"answer")
    pair.guest.send(udp(bytes((10, 0, 2, 77)), 7, SERVER, 7, b"moved"))
    pair.settle()
    pair.wait(10)
    arrives(pair, socket, OUTSIDER)
    pair.wait(silence - 10)
    arrives(pair, socket, OUTSIDER)
    inbound = [notice for notice in pair.notices if isinstance(notice, FlowOpened) and notice.inbound]
    assert len(inbound) == opened


def test_an_outsider_without_an_answer_is_led_to_the_guests_new_address_at_once() -> None:
    pair = Pair()
    socket = pair.host.forward(PORT, pair.now)
    arrives(pair, socket, OUTSIDER)
    pair.guest.send(udp(bytes((10, 0, 2, 77)), 7, SERVER, 7, b"moved"))
    pair.settle()
    arrives(pair, socket, OUTSIDER)
    inbound = [notice for notice in pair.notices if isinstance(notice, FlowOpened) and notice.inbound]
    assert [notice.guest.address[3] for notice in inbound] == [15, 77]


def test_a_query_from_the_port_goes_to_the_name_server_that_replaces_another() -> None:
    stub = Endpoint("127.0.0.53", 53)
    pair = Pair()
    pair.host.forward(PORT, pair.now, outgoing=(4,))
    (first,) = answer(pair, b"?", Endpoint(SERVER, 53))
    pair.network.reconfigure(replace(pair.config, dns_forward=((SERVER, stub),)), pair.now)
    (second,) = answer(pair, b"?", Endpoint(SERVER, 53))
    assert (first.remote, second.remote) == (Endpoint(SERVER, 53), stub)
