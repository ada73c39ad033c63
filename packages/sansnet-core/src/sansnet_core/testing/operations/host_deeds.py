"""How the operations of the host's sockets are done to a world."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

from sansnet_core.addresses import Endpoint
from sansnet_core.orders import ExtendedError
from sansnet_core.policy import Allow
from sansnet_core.testing.host_sockets import Kind, Socket
from sansnet_core.testing.operations import steps
from sansnet_core.testing.operations.common import endpoint, pick
from sansnet_core.testing.operations.domains import Operation
from sansnet_core.testing.operations.places import ADDRESSES
from sansnet_core.testing.operations.world import World

__all__ = ["DEEDS"]


def _host_connects(world: World, one: steps.HostConnects) -> None:
    waiting = [socket for socket in world.sockets.of(Kind.STREAM) if not socket.connected]
    if socket := pick(waiting, one.pick):
        world.connect(socket)


def _error(errno: int, origin: int, type_: int, code: int, info: int, offender: str) -> ExtendedError:
    return ExtendedError(errno, origin, type_, code, info, ADDRESSES[offender] if offender else None)


def _host_fails(world: World, one: steps.HostFails) -> None:
    world.settle_now()
    if socket := pick(world.sockets.of(Kind.STREAM), one.pick):
        error = None
        if one.origin:
            error = _error(
                one.errno, one.origin, one.type, one.code, one.info, "server" if one.origin == 2 else "server6"
            )
        world.fail(socket, one.errno, error)


def _streams(world: World) -> list[Socket]:
    return world.sockets.streams()


def _host_sends(world: World, one: steps.HostSends) -> None:
    if (socket := pick(_streams(world), one.pick)) and not world.ends[socket.name].ends:
        world.ends[socket.name].waiting += one.size


def _host_replies(world: World, one: steps.HostReplies) -> None:
    """Only where it can be no data of the guest: during a dialogue, or at a name server."""
    socket = pick(_streams(world), one.pick)
    if socket is None:
        return
    end = world.ends[socket.name]
    if end.key is None or (end.proxy is not None and not end.proxy.done):
        end.extra += one.data
        end.wild = True
        end.content = None
        if end.key is not None and (known := world.conversations.get(end.key)):
            known.host_content = None


def _host_ends(world: World, one: steps.HostEnds) -> None:
    if socket := pick(_streams(world), one.pick):
        world.ends[socket.name].ends = True


def _host_takes(world: World, one: steps.HostTakes) -> None:
    if socket := pick(_streams(world), one.pick):
        end = world.ends[socket.name]
        end.full = one.part < 16
        if count := socket.unsent * one.part // 16:
            world.take(socket, count)


def _source(world: World, socket: Socket, source: str) -> Endpoint | None:
    """A source of a datagram that can come to a socket; None if there is none of its family."""
    order = world.sent_datagrams.get(socket.name)
    if source in ("asked", "other port"):
        if order is None:
            return None if source == "other port" else Endpoint(ADDRESSES["outsider"], 34567)
        return order.remote if source == "asked" else Endpoint(order.remote.address, order.remote.port % 65535 + 1)
    address = ADDRESSES[source]
    if socket.local is not None and len(socket.local.address) != len(address):
        return None
    return Endpoint(address, 53)


def _host_datagram(world: World, one: steps.HostSendsDatagram) -> None:
    socket = pick(world.sockets.of(Kind.DATAGRAM, Kind.FORWARD, Kind.ECHO), one.pick)
    if socket is None:
        return
    network, now = world.network, world.now
    if socket.kind is Kind.ECHO:
        assert socket.remote is not None
        address = ADDRESSES.get(one.source, socket.remote.address)
        network.echo_received(socket.name, address, one.run % 65536 or 1, bytes(one.size), one.ttl, one.tos, now)
        return
    source = _source(world, socket, one.source)
    if source is None:
        return
    local = ADDRESSES[one.local] if one.local and socket.kind is Kind.FORWARD else None
    if local is not None and len(local) != len(source.address):
        local = None
    size = one.run if one.size else 0
    network.datagram_received(socket.name, source, bytes(one.size), size, one.ttl, one.tos, now, local)


def _host_fails_datagram(world: World, one: steps.HostFailsDatagram) -> None:
    socket = pick(world.sockets.of(Kind.DATAGRAM, Kind.FORWARD, Kind.ECHO), one.pick)
    if socket is None:
        return
    error = _error(one.errno, one.origin, one.type, one.code, one.info, one.offender)
    if socket.kind is Kind.ECHO:
        world.network.echo_failed(socket.name, 1, error, bytes(one.known), world.now)
    elif order := world.sent_datagrams.get(socket.name):
        data = bytes(order.data)[: one.known]
        world.network.datagram_failed(socket.name, order.remote, error, data, world.now)


def _name_answer(world: World, one: steps.HostAnswersName) -> None:
    asked = pick(list(world.questions), one.pick)
    if asked is None or len(asked[2]) < 17:
        return
    name, server, data = asked
    socket = world.sockets.all[name]
    if not socket.open:
        return
    end = data.index(b"\0", 12) + 1
    owner, question = b"\xc0\x0c", data[12 : end + 4]
    records, count = b"", 0
    if one.alias:
        labels = "" if one.alias == "itself" else one.alias
        target = b"".join(bytes([len(each)]) + each.encode() for each in labels.split(".") if each) + b"\0"
        target = owner if one.alias == "itself" else target
        records += owner + struct.pack("!HHIH", 5, 1, one.ttl, len(target)) + target
        owner, count = target, 1
    for each in one.addresses:
        address = ADDRESSES[each]
        records += owner + struct.pack("!HHIH", 1 if len(address) == 4 else 28, 1, one.ttl, len(address)) + address
        count += 1
    identifier = data[:2] if one.twists != "identifier" else bytes([data[0] ^ 1, data[1]])
    flags = 0x8180 | one.rcode | (0x0200 if one.twists == "truncated" else 0)
    if one.twists == "question":
        question = b"\1x\0" + question[-4:]
    answer = identifier + struct.pack("!HHHHH", flags, 1, count, 0, 0) + question + records
    if one.twists == "cut":
        answer = answer[: len(answer) // 2]
    if one.twists == "garbage":
        answer = data[:2] + b"\x81\x80" + bytes(range(60))
    if socket.kind is Kind.DATAGRAM:
        source = Endpoint(server.address, 5353) if one.twists == "source" else server
        world.network.datagram_received(name, source, answer, 0, 64, 0, world.now)
    elif socket.kind is Kind.STREAM and socket.connected:
        world.ends[name].extra += len(answer).to_bytes(2, "big") + answer


def _late(world: World, one: steps.LateFact) -> None:
    closed = [socket.name for socket in world.sockets.all.values() if socket.closed and not socket.ended]
    name = pick(closed, -1 - one.pick)
    if name is None:
        return
    network, now = world.network, world.now
    error = _error(111, 2, 3, 3, 0, "server")
    remote = Endpoint(ADDRESSES["server"], 80)
    facts: dict[str, Callable[[], object]] = {
        "connected": lambda: network.stream_connected(name, now),
        "received": lambda: network.stream_received(name, b"late", now),
        "sent": lambda: network.stream_sent(name, 0, now),
        "ended": lambda: network.stream_ended(name, now),
        "failed": lambda: network.stream_failed(name, 104, error, now),
        "datagram": lambda: network.datagram_received(name, remote, b"late", 0, 64, 0, now),
        "datagram failed": lambda: network.datagram_failed(name, remote, error, b"late", now),
        "echo": lambda: network.echo_received(name, remote.address, 1, b"late", 64, 0, now),
        "echo failed": lambda: network.echo_failed(name, 1, error, b"late", now),
        "decided": lambda: network.flow_decided(name, Allow(), now),
        "forward removed": lambda: network.forward_removed(name, now),
        "service removed": lambda: network.service_removed(name, now),
        "service sent": lambda: network.service_sent(name, endpoint(world, 4, 40000), remote, b"late", now),
        "budget": lambda: network.receive_budget(name),
    }
    facts[one.fact]()


DEEDS: Final[dict[type[Operation], Callable[[World, Any], None]]] = {
    steps.HostConnects: _host_connects,
    steps.HostFails: _host_fails,
    steps.HostSends: _host_sends,
    steps.HostReplies: _host_replies,
    steps.HostEnds: _host_ends,
    steps.HostTakes: _host_takes,
    steps.HostSendsDatagram: _host_datagram,
    steps.HostFailsDatagram: _host_fails_datagram,
    steps.HostAnswersName: _name_answer,
    steps.LateFact: _late,
}
