"""Forwards with a fake network, over loopback; a guest, if any, shares our namespace."""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from sansnet_core import CloseSocket, ConfigError, Endpoint, ResumeStream, SendDatagram, SendStream, SocketId
from sansnet_core.addresses import parse as address
from sansnet_core.ports import TCP, UDP, ForwardRule, parse_all
from sansnet_trio.forward import relay_udp
from sansnet_trio.forward.binding import ListenAddress, ephemeral_ports, guest_listen_address
from sansnet_trio.forward.forwards import ForwardError, Forwards
from sansnet_trio.forward.listeners import host_socket
from sansnet_trio.host.socket_context import SocketContext
from sansnet_trio.host.sockopts import read_local
from tests.trio.fake import Bench

V4 = address("127.0.0.1")
V6 = address("::1")
FIRST = SocketId(101)
"""The first identifier that the fake network assigns."""
BOTH = pytest.mark.parametrize("host", ["127.0.0.1", "::1"])


class Here:
    """A guest in our own namespace."""

    directory = "/proc/self"

    def socket(self, family: int, kind: int) -> socket.socket:
        return host_socket(family, kind)

    async def prepare_sockets(self) -> None:
        pass


class Table(Bench):
    """A bench that serves forwards, with a clock that stands still."""

    def __init__(self, forwards: Forwards) -> None:
        super().__init__()
        self.forwards = forwards
        self.now = 0.0
        forwards.serve(self.context, self.sockets, lambda: self.now)

    def __exit__(self, *_: object) -> None:
        self.forwards.leave()
        super().__exit__()


@contextmanager
def table(
    *specs: str, protocol: int = TCP, inbound: bool = True, guest: bool = False, own: bytes = b""
) -> Iterator[Table]:
    with Forwards(parse_all(specs, protocol, inbound=inbound)) as forwards:
        if guest:
            forwards.set_guest(Here(), [own] if own else [])
        with Table(forwards) as made:
            yield made


def connect(host: str, port: int) -> socket.socket:
    return socket.create_connection((host, port), timeout=5)


def datagrams(host: str) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((host, 0))
    made.settimeout(5)
    return made


def arrival(bench: Table, receiver: socket.socket) -> None:
    """Handle events until a socket has something to read; a busy machine delivers late, even over loopback."""
    bench.wait(lambda: bool(select.select([receiver], [], [], 0)[0]))
    bench.quiet()


def free_ports(count: int = 1) -> int:
    """The first of some consecutive free ports, none of them ephemeral.

    The search begins at a place that depends on the process, so that runs at the same time use different ports.
    """
    blocks = range(20000, 30000, count)
    for number in range(len(blocks)):
        first = blocks[(os.getpid() + number) % len(blocks)]
        with Forwards() as probe:
            try:
                probe.add(parse_all([f"{first}-{first + count - 1}"], TCP))
                probe.add(parse_all([f"{first}-{first + count - 1}"], UDP))
            except ForwardError:
                continue
            return first
    raise AssertionError


PORT = free_ports(20)
OTHER = PORT + 10


# TCP through the network


@BOTH
def test_a_connection_becomes_a_stream_of_the_network(host: str) -> None:
    with table(f"{PORT}:80") as bench, connect(host, PORT) as remote:
        bench.until("stream_accepted")
        source = Endpoint(address(host), remote.getsockname()[1])
        assert bench.network.facts == [("stream_accepted", source, None, 80)]

        remote.sendall(b"hello")
        bench.quiet()
        assert not bench.network.named("stream_received")  # the guest has not accepted yet
        bench.order(ResumeStream(FIRST), SendStream(FIRST, b"welcome"))
        bench.until("stream_received", "stream_sent")
        assert bench.network.data() == b"hello"
        assert remote.recv(100) == b"welcome"
        remote.shutdown(socket.SHUT_WR)
        bench.until("stream_ended")


def test_a_connection_that_the_network_refuses_is_reset() -> None:
    with table(str(PORT)) as bench, connect("127.0.0.1", PORT) as remote:
        bench.network.accepts = False
        bench.until("stream_accepted")
        with pytest.raises(ConnectionResetError):
            remote.recv(1)
        assert len(bench.sockets) == 0


def test_a_reset_before_the_guest_accepts_is_reported_afterwards() -> None:
    with table(str(PORT)) as bench:
        remote = connect("127.0.0.1", PORT)
        bench.until("stream_accepted")
        remote.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        remote.close()
        bench.quiet()
        bench.order(ResumeStream(FIRST))
        bench.until("stream_failed")
        assert bench.network.named("stream_failed") == [("stream_failed", FIRST, errno.ECONNRESET, None)]


@pytest.mark.parametrize(
    ("spec", "port", "arrives"),
    [
        (f"{PORT}-{PORT + 2}", PORT + 1, (None, PORT + 1)),
        (f"{PORT}-{PORT + 2}:80-82", PORT + 2, (None, 82)),
        (f"127.0.0.1/{PORT}:80", PORT, (None, 80)),
        (f"%lo/{PORT}", PORT, (None, PORT)),
        (f"{PORT}:10.0.0.1/80", PORT, (address("10.0.0.1"), 80)),
        (f"{PORT}-{PORT + 2},~{PORT}", PORT + 1, (None, PORT + 1)),
    ],
)
def test_ports_lead_where_the_rule_says(spec: str, port: int, arrives: tuple[bytes | None, int]) -> None:
    with table(spec) as bench, connect("127.0.0.1", port):
        bench.until("stream_accepted")
        assert bench.network.facts[0][2:] == arrives


def test_other_addresses_and_families_stay_closed() -> None:
    with table(f"127.0.0.1/{PORT}"):
        for host in ("127.0.0.2", "::1"):
            with pytest.raises(ConnectionRefusedError):
                connect(host, PORT)
    with Forwards(parse_all([str(PORT)], TCP), families={6}), pytest.raises(ConnectionRefusedError):
        connect("127.0.0.1", PORT)
    with Forwards(parse_all([str(PORT)], TCP), families={4}), pytest.raises(ConnectionRefusedError):
        connect("::1", PORT)


@pytest.mark.parametrize("count", [1, 2, 3, 64, 65, 130])
def test_all_connections_that_wait_are_accepted(count: int) -> None:
    with table(str(PORT)) as bench, ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(connect("127.0.0.1", PORT))
        bench.wait(lambda: len(bench.network.named("stream_accepted")) == count)
        stack.enter_context(connect("127.0.0.1", PORT))
        bench.wait(lambda: len(bench.network.named("stream_accepted")) == count + 1)


def test_while_the_link_is_blocked_no_connection_is_accepted() -> None:
    with table(str(PORT)) as bench, connect("127.0.0.1", PORT):
        bench.context.blocked = True
        bench.quiet()
        assert bench.spins() == 0
        assert not bench.network.facts
        bench.context.blocked = False
        bench.sockets.unpark()
        bench.until("stream_accepted")


def test_without_descriptors_connections_wait_without_waking_the_driver() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with table(str(PORT)) as bench, connect("127.0.0.1", PORT):
        with open("/dev/null") as lowest_free:
            limit = lowest_free.fileno()
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        try:
            bench.quiet()
            assert bench.spins() == 0
            assert not bench.network.facts
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        deadline = bench.forwards.next_deadline()
        assert deadline is not None
        assert 0 < deadline < 1
        bench.forwards.handle_deadline(deadline)
        bench.until("stream_accepted")
        assert bench.forwards.next_deadline() is None


@contextmanager
def few_descriptors(count: int) -> Iterator[None]:
    """Only so many descriptors can be opened in a block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack, open("/dev/null") as lowest_free:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free.fileno() + count, hard))
        lowest_free.close()
        yield


def test_connections_from_outside_leave_descriptors_to_the_guest() -> None:
    """Also if the forwarded ports have taken most descriptors; and those that find none wait, and are not reset."""
    with Forwards(parse_all([str(PORT)], TCP)) as forwards, ExitStack() as stack:
        remotes = [stack.enter_context(connect("127.0.0.1", PORT)) for _ in range(40)]
        with few_descriptors(24), Table(forwards) as bench:
            bench.quiet()
            assert 10 < len(bench.sockets) < 20
            for _ in range(4):
                stack.enter_context(host_socket(socket.AF_INET, socket.SOCK_STREAM))
            assert bench.forwards.next_deadline() is not None, "others wait"
            for remote in remotes:
                remote.setblocking(False)
                with pytest.raises(BlockingIOError):
                    remote.recv(1)


def test_a_connection_that_gets_a_reserved_descriptor_is_reset() -> None:
    """One that arrives when the guest has taken all others, and few connections from outside came before."""
    with (
        Forwards(parse_all([str(PORT)], TCP)) as forwards,
        few_descriptors(300),
        Table(forwards) as bench,
        connect("127.0.0.1", PORT) as remote,
        ExitStack() as stack,
    ):
        for _ in range(250):
            stack.enter_context(open("/dev/null"))
        arrival(bench, remote)
        with pytest.raises(ConnectionResetError):
            remote.recv(1)
        with connect("127.0.0.1", PORT):
            bench.quiet()
            assert not bench.network.facts, "it waits"


def test_a_descriptor_that_is_freed_is_used_at_once() -> None:
    with table(str(PORT)) as bench, ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(connect("127.0.0.1", PORT))
        with few_descriptors(1):
            bench.quiet()
            assert len(bench.network.named("stream_accepted")) == 1
            for name in (FIRST, SocketId(FIRST + 1)):
                assert bench.forwards.next_deadline() == pytest.approx(0.1)
                bench.order(CloseSocket(name))
                deadline = bench.forwards.next_deadline()
                assert deadline is not None
                assert deadline <= 0
                bench.forwards.handle_deadline(0.0)
                bench.quiet()
                assert len(bench.network.named("stream_accepted")) == name + 2 - FIRST


@pytest.mark.parametrize("free", [1, 2, 5])
def test_with_few_descriptors_the_ports_take_turns(free: int) -> None:
    """Each time as many descriptors become free as there were before, as when connections are short."""
    ports = PORT, PORT + 1
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with (
        Forwards(parse_all([f"127.0.0.1/{port}:{port}" for port in ports], TCP)) as forwards,
        Table(forwards) as bench,
        ExitStack() as stack,
    ):
        for port in ports:
            for _ in range(40):
                stack.enter_context(connect("127.0.0.1", port))
        with open("/dev/null") as lowest_free:
            limit = lowest_free.fileno() + free
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        for _ in range(11):
            bench.quiet()
            bench.sockets.close()
            deadline = bench.forwards.next_deadline()
            assert deadline is not None
            bench.forwards.handle_deadline(deadline)
        taken = [fact[3] for fact in bench.network.named("stream_accepted")][free:]  # before there was a shortage
        assert len(taken) == 10 * free
        assert abs(taken.count(PORT) - taken.count(PORT + 1)) <= 1


@pytest.mark.parametrize("inbound", [True, False])
def test_without_descriptors_datagrams_are_dropped_and_that_is_said(
    inbound: bool, caplog: pytest.LogCaptureFixture
) -> None:
    port = PORT if inbound else OTHER
    with (
        table(f"{port}:53", protocol=UDP, inbound=inbound, guest=True, own=V4) as bench,
        datagrams("127.0.0.1") as near,
        few_descriptors(0),
    ):
        near.sendto(b"lost", ("127.0.0.1", port))
        bench.wait(lambda: bench.context.datagrams_dropped == 1)
    assert [record.getMessage()[:31] for record in caplog.records] == ["no descriptor is left for more "]


def test_between_two_drivers_connections_wait() -> None:
    with Forwards(parse_all([str(PORT)], TCP)) as forwards:
        with Table(forwards) as first:
            remote = connect("127.0.0.1", PORT)
            first.until("stream_accepted")
        with remote, pytest.raises(ConnectionResetError):
            remote.recv(1)
        with connect("127.0.0.1", PORT) as waiting, Table(forwards) as second:
            second.until("stream_accepted")
            assert second.network.facts[0][1].port == waiting.getsockname()[1]


# UDP through the network


@BOTH
def test_datagrams_reach_the_network_and_answers_leave_from_the_same_address(host: str) -> None:
    with table(f"{PORT}:53", protocol=UDP) as bench, datagrams(host) as remote:
        assert bench.network.facts == [("forward_added", None, 53, ())] * 2  # one for each family
        target = "127.0.0.9" if host == "127.0.0.1" else host
        remote.sendto(b"question", (target, PORT))
        bench.until("datagram_received")
        (fact,) = bench.network.named("datagram_received")
        source = Endpoint(address(host), remote.getsockname()[1])
        assert fact[2:4] == (source, b"question")
        assert fact[7] == address(target)

        bench.order(SendDatagram(fact[1], source, b"answer", 0, 64, 0, local=fact[7]))
        assert remote.recvfrom(100)[:1] == (b"answer",)
        bench.order(SendDatagram(fact[1], source, b"a" * 8 + b"b" * 4, 8, 64, 0, local=fact[7]))
        assert [remote.recvfrom(100)[0] for _ in range(2)] == [b"a" * 8, b"b" * 4]
        bench.order(SendDatagram(fact[1], source, b"again", 0, 64, 0, local=fact[7]))
        assert remote.recvfrom(100)[1][:2] == (target, PORT)


def test_the_guest_may_send_first_from_a_forwarded_port() -> None:
    with table(str(PORT), f"127.0.0.1/{PORT + 1}", f"{PORT + 2}:53", protocol=UDP) as bench:
        told = [(port, outgoing) for _, _, port, outgoing in bench.network.facts]
        assert sorted(told) == [(53, ()), (53, ()), (PORT, (4,)), (PORT, (16,)), (PORT + 1, ())]


@pytest.mark.parametrize(("device", "first"), [(None, PORT), ("lo", PORT + 1)])
def test_it_sends_first_only_by_the_interface_of_its_other_traffic(device: str | None, first: int) -> None:
    with Forwards(parse_all([str(PORT), f"%lo/{PORT + 1}"], UDP), families=[4]) as forwards, Bench() as bench:
        bench.context = SocketContext(bench.network, bench.poller, 0, {4: device} if device else {})
        forwards.serve(bench.context, bench.sockets, lambda: 0.0)
        told = {port: outgoing for _, _, port, outgoing in bench.network.facts}
        assert told == {PORT: (), PORT + 1: (), first: (4,)}
        forwards.leave()


@pytest.mark.parametrize(("addressed", "local"), [("2001:db8::7", "2001:db8::7"), ("ff02::1", None)])
def test_answers_never_leave_from_a_multicast_address(addressed: str, local: str | None) -> None:
    message = socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, address(addressed) + bytes(4)
    assert read_local([message]) == (address(local) if local else None)


def test_a_forward_that_is_removed_while_the_link_is_blocked_is_not_resumed() -> None:
    with table(f"127.0.0.1/{PORT}", protocol=UDP) as bench, datagrams("127.0.0.1") as remote:
        bench.context.blocked = True
        remote.sendto(b"x", ("127.0.0.1", PORT))
        bench.quiet()
        bench.forwards.remove(bench.forwards.rules)
        bench.context.blocked = False
        bench.sockets.unpark()
        assert not bench.network.named("datagram_received")


def test_datagrams_wait_for_the_next_driver_too() -> None:
    with Forwards(parse_all([f"127.0.0.1/{PORT}"], UDP)) as forwards, datagrams("127.0.0.1") as remote:
        with Table(forwards):
            before = len(os.listdir("/proc/self/fd"))
        remote.sendto(b"x", ("127.0.0.1", PORT))
        with Table(forwards) as second:
            second.until("datagram_received")
            assert len(os.listdir("/proc/self/fd")) == before


def test_removing_a_forward_closes_it_at_once_and_informs_the_network() -> None:
    with table(f"127.0.0.1/{PORT}", protocol=UDP) as bench:
        bench.forwards.remove(bench.forwards.rules)
        assert bench.network.named("forward_removed") == [("forward_removed", FIRST)]
        assert len(bench.sockets) == 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("0.0.0.0", PORT))


# impossible forwards


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (f"{PORT}", [f"TCP {PORT}: port {PORT} of the host", "Address already in use", "end the program"]),
        (f"192.0.2.77/{PORT}", ["at 192.0.2.77", "freebind=True"]),
        (f"%nosuch0/{PORT}", ["nosuch0"]),
        (f"fe80::1/{PORT}", [f"fe80::1%eth0/{PORT}"]),
    ],
)
def test_a_port_that_cannot_be_bound_is_one_sentence_and_nothing_stays_open(spec: str, words: list[str]) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    with socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True):
        with pytest.raises(ForwardError) as caught:
            Forwards(parse_all([str(PORT + 1), spec] if spec != str(PORT) else [spec], TCP))
        message = str(caught.value)
        assert all(word in message for word in words), message
        assert "\n" not in message
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_privileged_port_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, _: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(ForwardError, match=r"port 80 of the host.*ip_unprivileged_port_start=80"):
        Forwards(parse_all(["80"], TCP))


def test_too_few_descriptors_are_an_error_even_for_weak_ports() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    try:
        with pytest.raises(ForwardError, match="ulimit -n"):
            Forwards(parse_all([f"~1-{PORT - 1},~{PORT + 200}-65535"], TCP))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_disabled_family_has_no_listeners() -> None:
    with pytest.raises(ForwardError, match="IP family that is disabled"):
        Forwards(parse_all([f"127.0.0.1/{PORT}"], TCP), families={6})


def test_freebind_listens_on_an_address_that_the_host_lacks() -> None:
    with Forwards(parse_all([f"192.0.2.77/{PORT}", f"[2001:db8::77]/{PORT}"], TCP), freebind=True) as forwards:
        assert {at.address for at in forwards.listen_addresses} == {
            address("192.0.2.77"),
            address("2001:db8::77"),
        }


def test_weak_ports_are_those_that_can_be_bound() -> None:
    ephemeral = ephemeral_ports()
    specs = [f"~1-{PORT - 1},~{PORT + 3}-{ephemeral.start - 1},~{ephemeral.start + 3}-65535"]
    with socket.create_server(("::", PORT + 1), family=socket.AF_INET6, dualstack_ipv6=True):
        with Forwards(parse_all(specs, TCP)) as forwards:
            assert {at.port for at in forwards.listen_addresses} == {PORT, PORT + 2}
        with pytest.raises(ForwardError, match=f"port {PORT + 1} of the host"):
            Forwards(parse_all([f"~1-{PORT},~{PORT + 2}-65535"], TCP))


# changes


def ports_of(forwards: Forwards) -> set[int]:
    return {at.port for at in forwards.listen_addresses}


def test_rules_come_and_go_while_they_are_served() -> None:
    with table(f"{PORT}-{PORT + 3}") as bench:
        bench.forwards.add(parse_all([f"127.0.0.1/{OTHER}:80"], TCP))
        with connect("127.0.0.1", OTHER):
            bench.until("stream_accepted")
            assert bench.network.facts[0][2:] == (None, 80)
        bench.forwards.remove(parse_all([f"{PORT + 1}"], TCP))
        assert ports_of(bench.forwards) == {PORT, PORT + 2, PORT + 3, OTHER}
        with pytest.raises(ConnectionRefusedError):
            connect("127.0.0.1", PORT + 1)
        bench.forwards.add(parse_all([f"{PORT + 1}:81"], TCP))
        with connect("127.0.0.1", PORT + 1):
            bench.wait(lambda: len(bench.network.facts) == 2)
            assert bench.network.facts[1][2:] == (None, 81)


def test_ports_are_removed_from_their_rules() -> None:
    """Whole rules, and parts of them; the rest of a rule keeps its place."""
    with table(f"{PORT}-{PORT + 3}", f"127.0.0.1/{OTHER}") as bench:
        bench.forwards.remove(parse_all([f"{PORT + 1}", f"{PORT + 3}"], TCP))
        assert bench.forwards.rules == parse_all([f"{PORT},{PORT + 2}", f"127.0.0.1/{OTHER}"], TCP)
        bench.forwards.remove(parse_all([f"{PORT}-{PORT + 2}"], TCP))
        assert bench.forwards.rules == parse_all([f"127.0.0.1/{OTHER}"], TCP)


def test_a_change_wakes_the_driver() -> None:
    with table() as bench:
        bench.quiet()
        bench.forwards.add(parse_all([str(PORT)], TCP))
        assert bench.round() == 1
        assert bench.spins() == 0


def test_connections_outlive_their_rule() -> None:
    with table(str(PORT)) as bench, connect("127.0.0.1", PORT) as remote:
        bench.until("stream_accepted")
        bench.forwards.remove(bench.forwards.rules)
        bench.order(SendStream(FIRST, b"still here"))
        assert remote.recv(100) == b"still here"


def test_waiting_connections_survive_a_change_of_other_rules() -> None:
    with table(f"{PORT}-{PORT + 3}") as bench, connect("127.0.0.1", PORT):
        bench.forwards.remove(parse_all([f"{PORT + 1}"], TCP))
        bench.until("stream_accepted")


def test_a_change_that_fails_changes_nothing() -> None:
    with table(str(PORT), f"~1-{PORT},~{PORT + 2}-65535") as bench, socket.create_server(("127.0.0.1", OTHER)):
        before = bench.forwards.rules, bench.forwards.listen_addresses
        with pytest.raises(ForwardError, match=f"port {OTHER}"):
            bench.forwards.add(parse_all([f"{PORT + 1}:80", f"127.0.0.1/{OTHER}"], TCP))
        with pytest.raises(ConfigError, match="leave one out"):
            bench.forwards.add(parse_all([f"{PORT}:81"], TCP))
        with pytest.raises(ForwardError, match="is not forwarded"):
            bench.forwards.remove(parse_all([str(PORT), f"127.0.0.1/{OTHER}"], TCP))
        assert (bench.forwards.rules, bench.forwards.listen_addresses) == before


def test_an_added_rule_may_name_a_weak_port() -> None:
    with table(f"~1-{PORT - 1},~{PORT + 2}-65535") as bench:
        bench.forwards.add(parse_all([f"127.0.0.1/{PORT}:80"], TCP))
        listen_addresses = {(at.address, at.port) for at in bench.forwards.listen_addresses}
        assert listen_addresses == {(V4, PORT), (None, PORT + 1)}


def test_closing_frees_the_ports_and_every_descriptor() -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    with table(str(PORT)) as bench, connect("127.0.0.1", PORT):
        bench.until("stream_accepted")
        bench.forwards.add(parse_all([str(PORT)], UDP))
    with Forwards(parse_all([str(PORT)], TCP)):
        pass
    assert sorted(os.listdir("/proc/self/fd")) == before


# the loopback path


@pytest.mark.parametrize("inbound", [True, False], ids=["in", "out"])
@BOTH
def test_tcp_takes_the_loopback_path(host: str, inbound: bool) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with (
        table(f"{PORT}:{OTHER}", inbound=inbound, guest=True) as bench,
        socket.create_server((host, OTHER), family=family) as listener,
        connect(host, PORT) as near,
    ):
        near.sendall(b"hello")
        arrival(bench, listener)
        far, _ = listener.accept()
        with far:
            arrival(bench, far)
            assert far.recv(100) == b"hello"
            far.sendall(b"welcome")
            arrival(bench, near)
            assert near.recv(100) == b"welcome"
        assert bench.network.facts == []


@pytest.mark.parametrize("inbound", [True, False], ids=["in", "out"])
@BOTH
def test_udp_takes_the_loopback_path(host: str, inbound: bool) -> None:
    with table(f"{PORT}:{OTHER}", protocol=UDP, inbound=inbound, guest=True) as bench, datagrams(host) as near:
        with socket.socket(near.family, socket.SOCK_DGRAM) as far:
            far.bind((host, OTHER))
            far.settimeout(5)
            for text in (b"one", b"two", b""):
                near.sendto(text, (host, PORT))
                arrival(bench, far)
                data, source = far.recvfrom(100)
                assert data == text
                far.sendto(data.upper(), source)
                arrival(bench, near)
                assert near.recvfrom(100)[0] == text.upper()
                assert near.getsockname() != source
        assert not bench.network.named("datagram_received")


def test_a_run_of_datagrams_stays_one() -> None:
    with (
        table(f"{PORT}:{OTHER}", protocol=UDP, guest=True) as bench,
        datagrams("127.0.0.1") as near,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far,
    ):
        far.bind(("127.0.0.1", OTHER))
        far.settimeout(5)
        far.setsockopt(socket.IPPROTO_UDP, 104, 1)  # UDP_GRO
        segment = (socket.IPPROTO_UDP, 103, (1000).to_bytes(2, "little"))  # UDP_SEGMENT
        near.sendmsg([bytes(4500)], [segment], 0, ("127.0.0.1", PORT))
        arrival(bench, far)
        data, ancillary, _, _ = far.recvmsg(65536, 100)
        assert (len(data), [level for level, _, _ in ancillary]) == (4500, [socket.IPPROTO_UDP])


def test_rules_with_a_target_and_no_splice_go_through_the_network() -> None:
    for splice, spec in ((False, f"{PORT}:80"), (True, f"{PORT}:10.0.0.1/80")):
        with Forwards(parse_all([spec], TCP), splice=splice) as forwards:
            forwards.set_guest(Here())
            with Table(forwards) as bench, connect("127.0.0.1", PORT):
                bench.until("stream_accepted")


def test_the_loopback_path_leads_to_the_guests_address_unless_to_loopback() -> None:
    own = address("127.0.0.3")
    for to_loopback, where in ((False, "127.0.0.3"), (True, "127.0.0.1")):
        with (
            Forwards(parse_all([f"{PORT}:{OTHER}"], TCP), to_loopback=to_loopback) as forwards,
            socket.create_server((where, OTHER)) as listener,
        ):
            forwards.set_guest(Here(), [own])
            with Table(forwards) as bench, connect("127.0.0.1", PORT):
                arrival(bench, listener)
                listener.accept()[0].close()


def test_there_are_no_loops() -> None:
    """A guest in our own namespace is the worst case: each listener leads to the other."""
    rules = [*parse_all([f"127.0.0.2/{PORT}:{OTHER}"], TCP), *parse_all([f"{OTHER}:{PORT}"], TCP, inbound=False)]
    with Forwards(rules, to_loopback=True) as forwards:
        forwards.set_guest(Here())
        with Table(forwards) as bench, connect("127.0.0.2", PORT) as near:
            arrival(bench, near)
            with pytest.raises(ConnectionResetError):
                near.recv(1)


def test_weak_ports_do_not_lead_back() -> None:
    weak = f"~1-{PORT - 1},~{PORT + 2}-65535"
    with Forwards([*parse_all([str(PORT)], TCP), *parse_all([weak], TCP, inbound=False)]) as forwards:
        forwards.set_guest(Here())
        assert {(at.port, at.inbound) for at in forwards.listen_addresses} == {
            (PORT, True),
            (PORT + 1, False),
        }


def test_new_ports_are_looked_for_more_than_once_a_second() -> None:
    with table("127.0.0.9/auto", guest=True) as bench:
        for _ in range(3):
            deadline = bench.forwards.next_deadline()
            assert deadline is not None
            assert 0 < deadline - bench.now <= 0.5
            bench.now = deadline
            bench.forwards.handle_deadline(bench.now)


def test_a_port_that_the_guest_uses_is_one_sentence() -> None:
    sentence = rf"TCP \(inbound=False\) {PORT}:80: port {PORT} of the guest cannot be bound at 127.0.0.1"
    with (
        Forwards(parse_all([f"{PORT}:80"], TCP, inbound=False)) as forwards,
        socket.create_server(("127.0.0.1", PORT)),
        pytest.raises(ForwardError, match=sentence),
    ):
        forwards.set_guest(Here())


def test_a_guest_without_ipv6_has_listeners_of_ipv4_alone() -> None:
    class Old(Here):
        def socket(self, family: int, kind: int) -> socket.socket:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
            return super().socket(family, kind)

    with Forwards(parse_all([str(PORT)], TCP, inbound=False)) as forwards:
        forwards.set_guest(Old())
        assert forwards.listen_addresses == {guest_listen_address(TCP, 4, PORT)}


def test_flows_end_when_they_are_silent() -> None:
    with table(f"{PORT}:{OTHER}", protocol=UDP, guest=True) as bench, datagrams("127.0.0.1") as near:
        before = len(os.listdir("/proc/self/fd"))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
            far.bind(("127.0.0.1", OTHER))
            near.sendto(b"x", ("127.0.0.1", PORT))
            arrival(bench, far)
        assert len(os.listdir("/proc/self/fd")) == before + 1
        times = []
        while (deadline := bench.forwards.next_deadline()) is not None:
            times.append(deadline)
            bench.forwards.handle_deadline(deadline)
        assert times == [5, 10, 15, 20, 25, 30]
        assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.interpreted
def test_a_new_flow_replaces_the_one_with_the_longest_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_udp, "_MAX_FLOWS", 2)
    with (
        table(f"{PORT}:{OTHER}", protocol=UDP, guest=True) as bench,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far,
    ):
        far.bind(("127.0.0.1", OTHER))
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            with datagrams("127.0.0.1") as near:
                near.sendto(b"x", ("127.0.0.1", PORT))
                arrival(bench, far)
                far.recv(1)
        assert len(os.listdir("/proc/self/fd")) == before + 2


def test_without_a_socket_the_datagram_is_dropped() -> None:
    class Nobody(Here):
        def socket(self, family: int, kind: int) -> socket.socket:
            raise ProcessLookupError(errno.ESRCH, "gone")

    with Forwards(parse_all([f"{PORT}:{OTHER}"], UDP)) as forwards:
        forwards.set_guest(Nobody())
        with Table(forwards) as bench, datagrams("127.0.0.1") as near:
            near.sendto(b"x", ("127.0.0.1", PORT))
            bench.wait(lambda: bench.context.datagrams_dropped == 1)
    with Forwards(parse_all([f"{PORT}:{OTHER}"], TCP)) as forwards:
        forwards.set_guest(Nobody())
        with Table(forwards) as bench, connect("127.0.0.1", PORT) as near:
            arrival(bench, near)
            with pytest.raises(ConnectionResetError):
                near.recv(1)


# auto


def followers(protocol: int, *, inbound: bool) -> tuple[ForwardRule, ...]:
    """Rules that lead to the next ports, since both sides are in the same namespace."""
    return parse_all([f"auto,{PORT}-{PORT + 3}:{OTHER}-{OTHER + 3}"], protocol, inbound=inbound)


@pytest.mark.parametrize("inbound", [True, False], ids=["in", "out"])
def test_ports_follow_the_listening_sockets_of_the_other_side(inbound: bool) -> None:
    with Forwards(followers(TCP, inbound=inbound)) as forwards:
        forwards.set_guest(Here())
        with Table(forwards) as bench:

            def scan() -> set[tuple[bytes | None, int]]:
                deadline = bench.forwards.next_deadline()
                assert deadline is not None
                assert deadline - bench.now <= 1
                bench.now = deadline
                bench.forwards.handle_deadline(deadline)
                return {(at.address, at.port) for at in forwards.listen_addresses}

            four, six = bytes(4), bytes(16) if inbound else V6
            assert scan() == set()
            with socket.create_server(("127.0.0.1", OTHER)):
                assert scan() == {(four, PORT)}
                with socket.create_server(("::1", OTHER + 3), family=socket.AF_INET6):
                    assert scan() == {(four, PORT), (six, PORT + 3)}
                with socket.create_server(("::", OTHER + 1), family=socket.AF_INET6, dualstack_ipv6=True):
                    assert scan() == {(four, PORT), (four, PORT + 1), (six, PORT + 1)}
            assert scan() == set()


def test_udp_follows_tcp_too_and_never_our_own_listeners() -> None:
    with Forwards(followers(UDP, inbound=True)) as forwards:
        forwards.set_guest(Here())
        with socket.create_server(("127.0.0.1", OTHER)), datagrams("127.0.0.1") as bound, Table(forwards) as bench:
            bench.forwards.handle_deadline(1)
            assert forwards.listen_addresses == {ListenAddress(UDP, True, bytes(4), None, PORT)}
            bound.close()
            forwards.add(parse_all([f"{OTHER + 1}:80"], TCP, inbound=False))
            forwards.add(parse_all([f"{OTHER + 2}:80"], UDP, inbound=False))
            bench.forwards.handle_deadline(2)
            assert {at.port for at in forwards.listen_addresses if at.inbound} == {PORT}


def test_ports_that_cannot_be_followed_are_left_out() -> None:
    with (
        Forwards(followers(TCP, inbound=True)) as forwards,
        socket.create_server(("127.0.0.1", OTHER)),
        socket.create_server(("127.0.0.1", PORT)),
    ):
        forwards.set_guest(Here())
        assert forwards.listen_addresses == set()


@contextmanager
def no_descriptors() -> Iterator[None]:
    """No descriptor can be opened in a block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        with suppress(OSError):
            while True:
                stack.callback(os.close, os.open("/dev/null", os.O_RDONLY))
        yield


def test_without_descriptors_no_port_is_followed_and_nothing_closes() -> None:
    with Forwards(followers(TCP, inbound=True)) as forwards, socket.create_server(("127.0.0.1", OTHER)):
        forwards.set_guest(Here())
        with Table(forwards) as bench:
            before = forwards.listen_addresses
            assert len(before) == 1
            with no_descriptors():
                bench.forwards.handle_deadline(1.0)
                assert forwards.listen_addresses == before


def test_without_descriptors_auto_cannot_begin() -> None:
    with Forwards(()) as forwards:
        forwards.set_guest(Here())
        with no_descriptors():
            forwards.prepare_to_follow()  # no rule needs it
            with pytest.raises(ForwardError, match=r"for auto cannot be looked up.*ulimit -n"):
                forwards.add(followers(TCP, inbound=True))
        assert forwards.listen_addresses == frozenset()
    with Forwards(followers(TCP, inbound=True)) as forwards, no_descriptors():
        with pytest.raises(ForwardError, match=r"for auto cannot be looked up.*ulimit -n"):
            forwards.set_guest(Here())
        with pytest.raises(ForwardError, match=r"for auto cannot be looked up.*ulimit -n"):
            forwards.prepare_to_follow()


def test_tables_that_are_open_need_no_files_to_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    with Forwards(followers(TCP, inbound=True)) as forwards:
        forwards.set_guest(Here())
        forwards.prepare_to_follow()
        with Table(forwards) as bench:
            monkeypatch.setattr(os, "open", None)
            monkeypatch.setattr("builtins.open", None)
            assert not forwards.listen_addresses
            with socket.create_server(("127.0.0.1", OTHER)):
                bench.forwards.handle_deadline(1.0)
                assert len(forwards.listen_addresses) == 1
            bench.forwards.handle_deadline(2.0)
            assert not forwards.listen_addresses
            monkeypatch.undo()


def test_without_auto_rules_there_are_no_scans() -> None:
    with table(str(PORT), guest=True) as bench:
        assert bench.forwards.next_deadline() is None
