"""The DNS server's exchanges over UDP and TCP: callables, limits, time. In virtual time, with services in memory."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.message
import dns.rcode
import dns.rdataset
import dns.resolver
import pytest
import trio
import trio.testing

from sansnet_core import ConfigError, Endpoint
from sansnet_core.records import replace
from sansnet_trio import Services
from sansnet_trio.dns import DnsServer, Question
from sansnet_trio.dns.exchange import Answers
from sansnet_trio.dns.zones import Zones
from sansnet_trio.testing import make_simulated_config, open_simulated_guest

GUEST = Endpoint(bytes([10, 0, 2, 15]), 40000)


@dataclass
class MemoryPeer:
    """The sender of a datagram."""

    guest: Endpoint
    network: Any


class Subscribers:
    """A network that keeps what its subscribers get."""

    def __init__(self) -> None:
        self.notices: list[Any] = []

    def publish(self, notice: Any) -> None:
        self.notices.append(notice)


class MemoryStream(trio.abc.Stream):
    """The server's end of a connection."""

    guest = GUEST
    network = None

    def __init__(self, inner: trio.abc.Stream) -> None:
        self._inner = inner
        self.aborted = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._inner.aclose()

    def abort(self) -> None:
        self.aborted = True


class MemoryDatagrams(trio.abc.AsyncResource):
    """Datagrams of a service."""

    def __init__(self) -> None:
        self.network: Any = None
        self.to_server, self._received = trio.open_memory_channel[bytes](1000)
        self._sent, self.to_guest = trio.open_memory_channel[bytes](1000)

    async def receive(self) -> tuple[bytes, MemoryPeer]:
        return await self._received.receive(), MemoryPeer(GUEST, self.network)

    async def send(self, data: bytes, peer: MemoryPeer) -> None:
        assert peer.guest == GUEST
        await self._sent.send(data)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class MemoryServices:
    """The two methods of `Services` that the server uses, and the guest's side of them."""

    def __init__(self) -> None:
        self.datagrams = MemoryDatagrams()
        self.connections: list[MemoryStream] = []

    def open_datagrams(self, port: int | None, *, host: object = None) -> MemoryDatagrams:
        assert (port, host) == (53, "10.9.0.53")
        return self.datagrams

    async def serve_tcp(
        self,
        handler: Callable[[MemoryStream], Awaitable[None]],
        port: int | None,
        *,
        host: object = None,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        assert (port, host) == (53, "10.9.0.53")
        async with trio.open_nursery() as nursery:
            self._nursery, self._handler = nursery, handler
            task_status.started()
            await trio.sleep_forever()

    def connect(self) -> trio.StapledStream[Any, Any]:
        ours, theirs = trio.testing.lockstep_stream_pair()
        stream = MemoryStream(theirs)
        self.connections.append(stream)
        self._nursery.start_soon(self._handler, stream)
        return ours

    async def ask(self, name: str, kind: str = "A") -> dns.message.Message:
        await self.datagrams.to_server.send(dns.message.make_query(name, kind).to_wire())
        return dns.message.from_wire(await self.datagrams.to_guest.receive())


@asynccontextmanager
async def serving(server: DnsServer) -> AsyncIterator[MemoryServices]:
    services: Any = MemoryServices()
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(server.serve, services, host="10.9.0.53"))
        yield services
        nursery.cancel_scope.cancel()


def run(body: Callable[[], Awaitable[None]]) -> None:
    trio.run(body, clock=trio.testing.MockClock(autojump_threshold=0), strict_exception_groups=True)


def framed(name: str, identity: int = 1) -> bytes:
    wire = dns.message.make_query(name, "A", id=identity).to_wire()
    return len(wire).to_bytes(2) + wire


async def read_message(stream: trio.abc.ReceiveStream) -> dns.message.Message | None:
    received = b""
    while len(received) < 2 or len(received) < 2 + int.from_bytes(received[:2]):
        size = 2 if len(received) < 2 else 2 + int.from_bytes(received[:2])
        data = await stream.receive_some(size - len(received))
        if not data:
            assert not received
            return None
        received += data
    return dns.message.from_wire(received[2:])


def test_questions_over_udp() -> None:
    asked: list[tuple[Question, str]] = []
    server = DnsServer({"app.internal": "10.9.0.1"}, on_query=lambda *each: asked.append(each))

    async def body() -> None:
        async with serving(server) as services:
            found = await services.ask("App.Internal")
            assert [str(rrset) for rrset in found.answer] == ["App.Internal. 60 IN A 10.9.0.1"]
            assert (await services.ask("nowhere.internal", "AAAA")).rcode() == dns.rcode.NXDOMAIN
            await services.datagrams.to_server.send(b"too short")
            await services.datagrams.to_server.send(bytes(12))
            await services.datagrams.to_guest.receive()
            server.replace({"nowhere.internal": "10.9.0.2"})
            assert (await services.ask("nowhere.internal")).rcode() == dns.rcode.NOERROR

    run(body)
    assert asked[0] == (Question("app.internal", "A", GUEST), "NOERROR")
    assert asked[1] == (Question("nowhere.internal", "AAAA", GUEST), "NXDOMAIN")
    counts = server.statistics()
    assert (counts.udp, counts.tcp, counts.malformed, counts.ignored) == (4, 0, 1, 1)
    assert counts.rcodes == {"NOERROR": 2, "NXDOMAIN": 1, "FORMERR": 1}


async def answer_slowly(question: Question) -> list[str]:
    await trio.sleep(1)
    return ["10.9.0.1", "fd00::1"] if question.name.startswith("a.") else []


def raising(error: Exception | type[Exception]) -> Callable[[Question], None]:
    def answer(question: Question) -> None:
        raise error

    return answer


@pytest.mark.parametrize(
    ("answerer", "expected"),
    [
        (answer_slowly, "NOERROR 10.9.0.1"),
        (lambda question: "10.9.0.7", "NOERROR 10.9.0.7"),
        (lambda question: dns.rdataset.from_text("IN", "A", 5, "10.9.0.8"), "NOERROR 10.9.0.8"),
        (lambda question: None, "NXDOMAIN"),
        (lambda question: (), "NOERROR"),
        (lambda question: "REFUSED", "REFUSED"),
        (raising(OSError(5, "no")), "SERVFAIL"),
        (raising(trio.TooSlowError()), "SERVFAIL"),
        (raising(dns.exception.Timeout), "SERVFAIL"),
        (raising(dns.resolver.NXDOMAIN), "NXDOMAIN"),
        (raising(dns.resolver.NoAnswer), "NOERROR"),
    ],
)
def test_a_callable_answers_or_fails(answerer: Any, expected: str) -> None:
    async def body() -> None:
        for server in (DnsServer({"*.dynamic": answerer}), DnsServer(otherwise=answerer)):
            async with serving(server) as services:
                found = await services.ask("a.dynamic")
                shown = [
                    dns.rcode.to_text(found.rcode()),
                    *(each.to_text() for rrset in found.answer for each in rrset),
                ]
                assert " ".join(shown) == expected

    run(body)


def test_a_callable_without_an_answer_has_a_limit() -> None:
    async def never(question: Question) -> None:
        await trio.sleep_forever()

    async def body() -> None:
        async with serving(DnsServer({"a.example": never}, answer_time=3)) as services:
            start = trio.current_time()
            assert (await services.ask("a.example")).rcode() == dns.rcode.SERVFAIL
            assert trio.current_time() - start == pytest.approx(3)

    run(body)


def test_a_chain_leads_to_a_callable() -> None:
    async def body() -> None:
        async with serving(DnsServer({"www.example": "CNAME a.example"}, otherwise=answer_slowly)) as services:
            found = await services.ask("www.example", "AAAA")
            assert [str(each) for each in found.answer] == [
                "www.example. 60 IN CNAME a.example.",
                "a.example. 60 IN AAAA fd00::1",
            ]

    run(body)


def test_other_names_are_forwarded_by_the_resolver_of_dnspython() -> None:
    """In real time, to a server on loopback."""
    zones = {"up.example": "9 A 192.0.2.7", "chain.example": "CNAME up.example", "empty.example": ()}
    upstream = Answers(Zones(zones, ttl=60, reverse=False), dns.rcode.NXDOMAIN, 60, 5.0, None)
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = ["127.0.0.1"]

    async def forward(question: Question) -> Any:
        return (await resolver.resolve(question.name, question.type)).rrset

    async def serve_upstream(sock: trio.socket.SocketType) -> None:
        while True:
            data, peer = await sock.recvfrom(4096)
            exchange = upstream.begin(data, GUEST)
            assert exchange is not None
            await sock.sendto(exchange.response(exchange.payload), peer)

    async def body() -> None:
        with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sock:
            await sock.bind(("127.0.0.1", 0))
            resolver.port = sock.getsockname()[1]
            async with trio.open_nursery() as nursery, serving(DnsServer(otherwise=forward)) as services:
                nursery.start_soon(serve_upstream, sock)
                answers = [await services.ask(name) for name in ("up.example", "chain.example")]
                assert [str(each.answer[0]) for each in answers] == [
                    "up.example. 9 IN A 192.0.2.7",
                    "chain.example. 9 IN A 192.0.2.7",
                ]
                assert (await services.ask("none.example")).rcode() == dns.rcode.NXDOMAIN
                empty = await services.ask("empty.example")
                assert (empty.rcode(), empty.answer) == (dns.rcode.NOERROR, [])
                nursery.cancel_scope.cancel()

    trio.run(body)


@pytest.mark.parametrize(
    ("answerer", "error"),
    [(raising(ZeroDivisionError()), ZeroDivisionError), (lambda question: "nothing", ConfigError)],
)
def test_a_mistake_of_a_callable_ends_the_server(answerer: Any, error: type[Exception]) -> None:
    async def body() -> None:
        async with serving(DnsServer(otherwise=answerer)) as services:
            await services.ask("a.example")

    with pytest.raises(ExceptionGroup) as caught:
        run(body)
    assert caught.group_contains(error)


def test_a_place_in_use_is_one_exception() -> None:
    async def body() -> None:
        services = Services()
        async with services.listen_tcp(53):
            with pytest.raises(OSError, match="TCP port 53") as caught:
                await DnsServer().serve(services)
            assert caught.value.errno == errno.EADDRINUSE

    run(body)


def test_many_questions_that_wait_are_bounded() -> None:
    server = DnsServer(otherwise=answer_slowly, max_pending=10)

    async def body() -> None:
        async with serving(server) as services:
            for _ in range(30):
                await services.datagrams.to_server.send(dns.message.make_query("a.example", "A").to_wire())
            for _ in range(10):
                await services.datagrams.to_guest.receive()
            assert (await services.ask("a.example")).rcode() == dns.rcode.NOERROR

    run(body)
    assert server.statistics().dropped == 20


def test_one_guest_does_not_keep_another_out() -> None:
    server = DnsServer(otherwise=answer_slowly, max_pending=2)
    hostile, other = Subscribers(), Subscribers()

    async def body() -> None:
        async with serving(server) as services:
            for network in (hostile, hostile, hostile, other):
                services.datagrams.network = network
                await services.datagrams.to_server.send(dns.message.make_query("a.example", "A").to_wire())
                await trio.testing.wait_all_tasks_blocked()
            for _ in range(3):
                await services.datagrams.to_guest.receive()

    run(body)
    assert (server.statistics().udp, server.statistics().dropped) == (3, 1)
    assert [notice.name for notice in hostile.notices] == ["a.example"] * 2
    assert str(server.statistics()).startswith("DNS queries: 3 over UDP, 0 over TCP; responses: 3 NOERROR; 0 malformed")


# TCP


def test_a_guest_that_does_not_read_its_responses_holds_up_no_other() -> None:
    async def body() -> None:
        services = Services()
        config = replace(make_simulated_config(), dns_servers=("10.0.2.2",))
        async with trio.open_nursery() as nursery:
            await nursery.start(DnsServer({"app.internal": "10.9.0.1"}).serve, services)
            async with (
                open_simulated_guest(config, services=services) as full,
                open_simulated_guest(config, services=services) as other,
            ):
                socket = full.open_datagrams()
                full.link.room = 0
                for identity in range(50):
                    query = dns.message.make_query("app.internal", "A", id=identity).to_wire()
                    await socket.send(query, ("10.0.2.2", 53))
                await trio.sleep(0.1)
                with trio.fail_after(0.5):
                    assert await other.resolve("app.internal") == [bytes([10, 9, 0, 1])]
            nursery.cancel_scope.cancel()

    run(body)


def test_a_connection_has_many_questions_which_are_answered_as_the_answers_come() -> None:
    async def body() -> None:
        server = DnsServer({"fast.example": "10.9.0.1", "a.slow": answer_slowly})
        async with serving(server) as services:
            stream = services.connect()
            await stream.send_all(framed("a.slow", 1) + framed("fast.example", 2)[:7])
            await stream.send_all(framed("fast.example", 2)[7:] + framed("fast.example", 3))
            await stream.send_eof()
            found = [await read_message(stream) for _ in range(4)]
            assert [None if each is None else each.id for each in found] == [2, 3, 1, None]
        assert server.statistics().tcp == 3

    run(body)


@pytest.mark.parametrize("part", [0, 1, 20])
def test_an_idle_connection_is_closed(part: int) -> None:
    """Also if a part of a query has arrived, or each second another byte."""

    async def body() -> None:
        async with serving(DnsServer({"a.example": "10.9.0.1"}, idle_time=7)) as services:
            stream = services.connect()
            await stream.send_all(framed("a.example") + framed("a.example")[:part])
            assert await read_message(stream) is not None
            start = trio.current_time()
            assert await read_message(stream) is None
            assert trio.current_time() - start == pytest.approx(7)

            stream = services.connect()
            with suppress(trio.BrokenResourceError):
                for _ in range(20):
                    await stream.send_all(b"\0")
                    await trio.sleep(1)
            assert trio.current_time() - start < 16

    run(body)


def test_a_message_that_gets_no_response_ends_the_connection() -> None:
    async def body() -> None:
        async with serving(DnsServer()) as services:
            for message in (b"\0\0", b"\0\x05short"):
                stream = services.connect()
                await stream.send_all(message)
                assert await read_message(stream) is None

    run(body)


def test_a_guest_that_does_not_read_is_reset() -> None:
    async def body() -> None:
        async with serving(DnsServer({"a.example": answer_slowly}, idle_time=7)) as services:
            stream = services.connect()
            await stream.send_all(framed("a.example") * 10)
            await trio.sleep(20)
            assert services.connections[0].aborted

    run(body)


def test_a_guest_that_resets_disturbs_nothing() -> None:
    async def body() -> None:
        async with serving(DnsServer({"a.example": answer_slowly})) as services:
            stream = services.connect()
            await stream.send_all(framed("a.example") * 10)
            await stream.aclose()
            await trio.sleep(20)
            assert (await services.ask("a.example")).rcode() == dns.rcode.NOERROR

    run(body)


def test_connections_are_bounded_and_freed() -> None:
    server = DnsServer({"a.example": "10.9.0.1"}, max_connections=2)

    async def body() -> None:
        async with serving(server) as services:
            streams = []
            for _ in range(3):
                streams.append(services.connect())
                await trio.testing.wait_all_tasks_blocked()
            assert [each.aborted for each in services.connections] == [False, False, True]
            await streams[0].aclose()
            await trio.testing.wait_all_tasks_blocked()
            stream = services.connect()
            await stream.send_all(framed("a.example"))
            assert await read_message(stream) is not None

    run(body)
    assert server.statistics().refused_connections == 1


def test_pipelined_questions_are_bounded() -> None:
    most = 0
    present = 0

    async def count(question: Question) -> str:
        nonlocal most, present
        present += 1
        most = max(most, present)
        await trio.sleep(1)
        present -= 1
        return "10.9.0.1"

    async def body() -> None:
        async with serving(DnsServer(otherwise=count)) as services:
            stream = services.connect()
            await stream.send_all(framed("a.example") * 100)
            for _ in range(100):
                assert await read_message(stream) is not None

    run(body)
    assert most == 16


def test_without_dnspython_the_extra_is_named() -> None:
    script = (
        "import sys; sys.modules['dns'] = None\n"
        "try:\n    import sansnet_trio.dns\n"
        "except ModuleNotFoundError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == ("sansnet_trio.dns needs dnspython, which is not installed: install sansnet-trio[dns]\n")
