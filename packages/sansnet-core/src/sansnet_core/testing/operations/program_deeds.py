"""How the operations of outsiders, the program and time are done to a world."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sansnet_core.addresses import Endpoint, Prefix
from sansnet_core.errors import UsageError
from sansnet_core.orders import SocketId
from sansnet_core.testing.host_sockets import Kind
from sansnet_core.testing.operations import steps
from sansnet_core.testing.operations.common import endpoint, pick, send
from sansnet_core.testing.operations.domains import Operation
from sansnet_core.testing.operations.places import ADDRESSES
from sansnet_core.testing.operations.settings import changed
from sansnet_core.testing.operations.world import World
from sansnet_core.testing.packets import ACK, SYN, Segment

__all__ = ["DEEDS"]

_MAX_HELD: Final = 6
"""Forwards at a time."""


def _answer_syn(world: World, port: int, window: int) -> None:
    """The guest accepts the connection that has just begun."""
    known = world.conversations.latest.get(port)
    if known is None or known.network_first is None or known.first is not None:
        return
    first = 77_000 + port
    syn_ack = Segment(*known.guest, *known.remote, first, known.expected, SYN | ACK, window, b"", 1460, 2, True)
    send(world, syn_ack.ip())


def _outsider(world: World, one: steps.OutsiderConnects) -> None:
    world.settle_now()
    remote = Endpoint(ADDRESSES[one.remote], one.remote_port)
    address = ADDRESSES[one.address] if one.address else None
    socket = world.network.stream_accepted(remote, address, one.port, world.now)
    if socket is None:
        return
    world.adopt(socket, remote)
    world.settle()
    if one.accepts:
        _answer_syn(world, one.port, one.window)


def _program_connects(world: World, one: steps.ProgramConnects) -> None:
    world.settle_now()
    source = Endpoint(ADDRESSES[one.source], one.source_port) if one.source else None
    address = ADDRESSES[one.address] if one.address else None
    socket = world.network.stream_opened(source, address, one.port, world.now)
    if socket < 0:
        return
    world.adopt(SocketId(socket), Endpoint(bytes(4), 0))
    world.settle()
    if one.accepts:
        _answer_syn(world, one.port, one.window)


def _forward(world: World, one: steps.ForwardBegins) -> None:
    if len(world.sockets.of(Kind.FORWARD)) < _MAX_HELD:
        address = ADDRESSES[one.address] if one.address else None
        world.sockets.forward_added(world.network.forward_added(address, one.port, world.now, one.outgoing))


def _forward_ends(world: World, one: steps.ForwardEnds) -> None:
    if socket := pick(world.sockets.of(Kind.FORWARD), one.pick):
        world.settle_now()
        world.sockets.forward_removed(socket.name)
        world.network.forward_removed(socket.name, world.now)


def _service(world: World, one: steps.ServiceBegins) -> None:
    prefix = Prefix.of(one.prefix) if one.prefix else None
    try:
        name = world.network.service_added(one.protocol, prefix, one.port, world.now)
    except UsageError:
        return  # there is one at this place
    world.sockets.service_added(name, one.protocol)


def _service_ends(world: World, one: steps.ServiceEnds) -> None:
    if socket := pick(world.sockets.of(Kind.SERVICE, Kind.FLOW), one.pick):
        world.settle_now()
        if socket.open:
            world.sockets.service_removed(socket.name)
            world.network.service_removed(socket.name, world.now)


def _program_sends(world: World, one: steps.ProgramSends) -> None:
    services = [each for each in world.sockets.of(Kind.SERVICE, Kind.FLOW) if each.protocol == 17]
    socket = pick(services, one.pick)
    if socket is None:
        return
    delivered = world.delivered.get(socket.name)
    if one.source == "asked":
        if delivered is None:
            return
        guest, source = delivered
    else:
        source = Endpoint(ADDRESSES[one.source], 7)
        guest = endpoint(world, len(source.address), one.port)
    world.network.service_sent(socket.name, guest, source, bytes(one.size), world.now)


def _decide(world: World, one: steps.ProgramDecides) -> None:
    name = pick(sorted(world.sockets.questions), one.pick)
    if name is not None:
        world.settle_now()
    if name is not None and name in world.sockets.questions:
        world.sockets.decided(name, one.verdict)
        world.network.flow_decided(name, one.verdict, world.now)


def _reconfigure(world: World, one: steps.Reconfiguration) -> None:
    config = changed(world.config, one.change, world.first)
    world.network.reconfigure(config, world.now, moved=one.moved, keep_flows=one.keep_flows)
    world.config = config


# time and the driver


def _pass(world: World, one: steps.TimePasses) -> None:
    world.pass_time(one.seconds)


def _jump(world: World, one: steps.TimeJumps) -> None:
    world.now += one.seconds
    world.network.handle_deadline(world.now)


def _wait(world: World, one: steps.OutputsWait) -> None:
    world.wait = one.operations + 1


DEEDS: Final[dict[type[Operation], Callable[[World, Any], None]]] = {
    steps.OutsiderConnects: _outsider,
    steps.ProgramConnects: _program_connects,
    steps.ForwardBegins: _forward,
    steps.ForwardEnds: _forward_ends,
    steps.ServiceBegins: _service,
    steps.ServiceEnds: _service_ends,
    steps.ProgramSends: _program_sends,
    steps.ProgramDecides: _decide,
    steps.Reconfiguration: _reconfigure,
    steps.TimePasses: _pass,
    steps.TimeJumps: _jump,
    steps.OutputsWait: _wait,
}
