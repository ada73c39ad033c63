"""Connections of the guest that the program serves, and addresses that exist in the program only."""

from __future__ import annotations

from errno import ECONNREFUSED, ECONNRESET

import pytest

from sansnet_core import (
    Action,
    CloseSocket,
    Endpoint,
    FlowClosed,
    FlowOpened,
    FlowRefused,
    FlowReport,
    Network,
    NetworkConfig,
    OpenStream,
    Prefix,
    Reason,
    Rule,
    ServeStream,
)
from sansnet_core.orders import SocketId
from sansnet_core.records import replace
from sansnet_core.testing import GATEWAY, SERVER, GuestStack, HostScript, ManualConnection, Pair, make_config
from sansnet_core.testing.packets import ACK, RST, SYN, TCP, Segment

GUEST = GuestStack().ipv4
VIRTUAL = "198.18.0.0/15"
VIRTUAL6 = "2001:2::/48"
PLACE = bytes((198, 18, 0, 1))
PLACE6 = Prefix.of("2001:2::1").address


def virtual_config() -> NetworkConfig:
    return replace(make_config(), virtual=(VIRTUAL, VIRTUAL6))


def opened(pair: Pair) -> list[OpenStream]:
    """The host sockets that were ordered."""
    return [order for order in pair.host.orders if isinstance(order, OpenStream)]


def served(pair: Pair) -> list[SocketId | None]:
    """The services that got connections."""
    return [order.service for order in pair.host.orders if isinstance(order, ServeStream)]


def serve(pair: Pair, prefix: str | None = None, port: int | None = 80) -> SocketId:
    return pair.network.service_added(TCP, None if prefix is None else Prefix.of(prefix), port, pair.now)


@pytest.mark.parametrize("address", [PLACE, PLACE6, GATEWAY])
def test_a_service_gets_the_connection_and_no_host_socket_is_opened(address: bytes) -> None:
    pair = Pair(virtual_config(), HostScript(echo=True))
    service = serve(pair)
    connection = pair.guest.connect((address, 80), now=pair.now)
    connection.send(b"hello")
    connection.shutdown()
    pair.drive(lambda: connection.closed)

    guest = Endpoint(pair.guest.address(len(address)), 40001)
    order = pair.host.orders[0]
    assert order == ServeStream(SocketId(service + 1), service, guest, Endpoint(address, 80))
    assert bytes(connection.received) == b"hello"
    assert opened(pair) == []
    assert pair.host.orders[-1] == CloseSocket(order.socket, False, 0)
    place = Endpoint(address, 80)
    assert pair.notices == [
        FlowOpened(order.socket, TCP, guest, place, place, False, 1000.0),
        FlowClosed(order.socket, TCP, guest, place, place, False, 5, 5, 0, pair.now),
    ]


def test_the_guest_gets_no_answer_before_the_program_has_accepted() -> None:
    pair = Pair(virtual_config(), HostScript(connect=None))
    serve(pair)
    peer = ManualConnection(pair, remote=(PLACE, 80))
    assert peer.syn() == []
    pair.network.stream_connected(pair.host.stream.socket, pair.now)
    pair.settle()
    (answer,) = peer.take()
    assert answer.flags == SYN | ACK


def test_a_program_that_refuses_resets_the_guest() -> None:
    pair = Pair(virtual_config(), HostScript(connect=ECONNREFUSED))
    serve(pair)
    peer = ManualConnection(pair, remote=(PLACE, 80))
    (answer,) = peer.syn()
    assert answer.flags == RST | ACK
    assert pair.tcp_flows == 0
    assert FlowRefused in map(type, pair.notices)


def test_a_service_has_no_place_at_the_hosts_addresses_unless_it_says_so() -> None:
    pair = Pair(virtual_config())
    serve(pair)
    ManualConnection(pair).syn()
    assert served(pair) == []
    assert opened(pair)

    service = serve(pair, "192.0.2.0/24")
    ManualConnection(pair, port=50001).syn()
    assert served(pair) == [service]
    assert len(opened(pair)) == 1


def test_the_longest_prefix_decides_and_then_the_port() -> None:
    pair = Pair(virtual_config())
    everything, everywhere, one, net = (
        serve(pair, None, None),
        serve(pair, "0.0.0.0/0", None),
        serve(pair, "198.18.0.0/16", 80),
        serve(pair, "198.18.0.0/16", None),
    )
    for number, remote in enumerate([(PLACE, 80), (PLACE, 81), (SERVER, 80), (PLACE6, 80)]):
        ManualConnection(pair, port=50000 + number, remote=remote)
        pair.guest.send(
            Segment(
                pair.guest.address(len(remote[0])), 50000 + number, *remote, sequence=1, flags=SYN, window=1000
            ).ip()
        )
        pair.settle()

    assert served(pair) == [one, net, everywhere, everything]
    assert opened(pair) == []


def test_a_removed_service_keeps_its_connections_and_gets_no_more() -> None:
    pair = Pair(virtual_config(), HostScript(echo=True))
    service = serve(pair)
    connection = pair.guest.connect((PLACE, 80), now=pair.now)
    pair.settle()
    pair.network.service_removed(service, pair.now)
    connection.send(b"still")
    pair.settle()
    assert bytes(connection.received) == b"still"

    (answer,) = ManualConnection(pair, remote=(PLACE, 80)).syn()
    assert answer.flags == RST | ACK
    serve(pair)  # the place is free again


def test_rules_are_no_matter_to_services() -> None:
    pair = Pair(replace(virtual_config(), rules=(Rule(action=Action.DROP),), default_action=Action.DROP))
    service = serve(pair)
    (answer,) = ManualConnection(pair, remote=(PLACE, 80)).syn()
    assert answer.flags == SYN | ACK
    assert served(pair) == [service]


# addresses that exist in the program only


@pytest.mark.parametrize("address", [PLACE, PLACE6, GATEWAY])
@pytest.mark.parametrize("action", list(Action))
def test_a_place_without_a_service_is_refused_here_whatever_the_rules_say(address: bytes, action: Action) -> None:
    pair = Pair(replace(virtual_config(), default_action=action))
    source = pair.guest.address(len(address))
    pair.guest.send(Segment(source, 40000, address, 80, sequence=7, flags=SYN).ip())
    pair.settle()

    (answer,) = pair.guest.strays
    assert (answer.source, answer.flags, answer.acknowledgment) == (address, RST | ACK, 8)
    assert pair.host.orders == []
    assert pair.network.statistics().drops == {Reason.OWN_ADDRESS: 1}
    (notice,) = pair.notices
    assert isinstance(notice, FlowRefused)
    assert (notice.reason, notice.host, notice.errno) == (Reason.OWN_ADDRESS, None, 0)


def test_a_virtual_prefix_is_stronger_than_every_map_to_the_host() -> None:
    """No alias of the host, and no name server that is forwarded to, opens a way out."""
    alias, server = bytes((198, 18, 0, 2)), bytes((198, 18, 0, 3))
    config = replace(
        virtual_config(), map_host_loopback=(alias,), dns_forward=((server, Endpoint(bytes((127, 0, 0, 53)), 53)),)
    )
    pair = Pair(config)
    for number, remote in enumerate([(alias, 80), (server, 53), (server, 853)]):
        (answer,) = ManualConnection(pair, port=50000 + number, remote=remote).syn()
        assert answer.flags == RST | ACK
    assert pair.host.orders == []

    source = Endpoint(bytes((127, 0, 0, 1)), 5555)
    stream = pair.host.accept(source, 80, pair.now)
    assert stream is not None
    pair.settle()
    assert pair.guest.strays[-1].source == GATEWAY, "the guest could not answer to the alias"


def test_the_whole_world_can_be_virtual() -> None:
    pair = Pair(replace(make_config(), virtual=("0.0.0.0/0", "::/0")), HostScript(echo=True))
    (answer,) = ManualConnection(pair).syn()
    assert answer.flags == RST | ACK
    service = serve(pair)
    connection = pair.guest.connect((SERVER, 80), now=pair.now)
    connection.send(b"hello")
    pair.settle()
    assert bytes(connection.received) == b"hello"
    assert (served(pair), opened(pair)) == ([service], [])

    pair.guest.listening[80] = pair.guest.listening.get(80) or type(connection.options)()
    stream = pair.host.connect(80, pair.now)
    pair.settle()
    assert not isinstance(stream, int)


def test_a_reset_for_a_group_in_a_virtual_prefix_is_not_sent() -> None:
    pair = Pair(replace(make_config(), virtual=("224.0.0.0/4",)))
    assert ManualConnection(pair, remote=(bytes((224, 0, 0, 5)), 80)).syn() == []
    assert pair.host.orders == []


def test_prefixes_may_become_virtual_while_the_network_runs() -> None:
    pair = Pair()
    connection, stream = pair.established()
    pair.network.reconfigure(replace(pair.config, virtual=("192.0.2.0/24",)), pair.now)
    connection.send(b"goes on")
    pair.settle()
    assert bytes(stream.received) == b"goes on"

    (answer,) = ManualConnection(pair).syn()
    assert answer.flags == RST | ACK
    pair.network.reconfigure(pair.config, pair.now)
    (answer,) = ManualConnection(pair, port=50001).syn()
    assert answer.flags == SYN | ACK


# errnos of closed sockets


def test_a_guest_that_resets_and_a_host_that_fails_are_told_apart() -> None:
    pair = Pair()
    connection, stream = pair.established()
    connection.abort(pair.now)
    pair.settle()
    _, other = pair.established()
    pair.host.fail(other, ECONNREFUSED, pair.now)
    pair.settle()

    closed = [notice for notice in pair.notices if isinstance(notice, FlowClosed)]
    assert [(one.socket, one.errno) for one in closed] == [(stream.socket, ECONNRESET), (other.socket, ECONNREFUSED)]


def test_a_fact_about_a_socket_that_the_core_has_closed_changes_nothing() -> None:
    pair = Pair(script=HostScript(end=True))
    connection, stream = pair.established()
    connection.shutdown()
    pair.settle()
    assert stream.closed
    pair.network.stream_failed(stream.socket, ECONNRESET, None, pair.now)
    pair.wait(5.0)
    (closed,) = [notice for notice in pair.notices if isinstance(notice, FlowClosed)]
    assert closed.errno == 0


# text


def test_people_can_read_what_happens() -> None:
    pair = Pair(virtual_config())
    serve(pair)
    connection = pair.guest.connect((PLACE, 80), now=pair.now)
    connection.send(b"hello")
    pair.settle()
    ManualConnection(pair, remote=(PLACE, 81)).syn()
    connection.abort(pair.now)
    pair.settle()

    assert [str(notice) for notice in pair.notices] == [
        "tcp 10.0.2.15:40001 to 198.18.0.1:80 opened",
        f"tcp 10.0.2.15:50000 to 198.18.0.1:81 refused: {Reason.OWN_ADDRESS.value}",
        "tcp 10.0.2.15:40001 to 198.18.0.1:80 closed (ECONNRESET): 5 bytes sent, 0 received",
    ]
    guest, host = Endpoint("10.0.2.15", 80), Endpoint("127.0.0.1", 7)
    report = FlowReport(SocketId(1), TCP, guest, Endpoint(GATEWAY, 7), host, True, "ESTABLISHED", 1, 2)
    assert (
        str(report) == "tcp 10.0.2.2:7 to 10.0.2.15:80 (on the host: 127.0.0.1:7) ESTABLISHED: 1 bytes sent, 2 received"
    )
    failed = FlowRefused(1, guest, Endpoint(SERVER, 80), Endpoint(SERVER, 80), ECONNREFUSED)
    assert str(failed) == "ping 10.0.2.15 to 192.0.2.80 failed (ECONNREFUSED)"
    assert str(replace_errno(failed)) == "ping 10.0.2.15 to 192.0.2.80 given up by the guest"
    assert str(pair.network).startswith("network of 10.0.2.15 and 2001:db8::15: 0 flows, ")
    config = replace(make_config(), ipv6=None)
    assert str(Network(config, now=0.0, secret=bytes(16))) == (
        "network of 10.0.2.15: 0 flows, 0 frames received, 0 sent, 0 drops"
    )


def replace_errno(notice: FlowRefused) -> FlowRefused:
    """The same notice without an errno."""
    return FlowRefused(notice.protocol, notice.guest, notice.remote, notice.host, 0)
