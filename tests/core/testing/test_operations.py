"""The world of operations notices networks that do wrong."""

from __future__ import annotations

import pytest

from sansnet_core import Frame, Network
from sansnet_core.policy import Action, NameMode, ProxyKind, Serve
from sansnet_core.testing.host_sockets import Kind
from sansnet_core.testing.operations import Setting, World, do
from sansnet_core.testing.operations.places import ADDRESSES
from sansnet_core.testing.operations.settings import SERVERS
from sansnet_core.testing.operations.steps import (
    GuestAsks,
    GuestConnects,
    GuestSendsDatagram,
    GuestTransfers,
    HostAnswersName,
    HostConnects,
    HostReplies,
    OutputsWait,
    ProgramDecides,
    ProgramSends,
    Reconfiguration,
    ServiceBegins,
    ServiceEnds,
    TimePasses,
)
from sansnet_core.testing.packets import ARP, ethernet, glue


class LosesLargeFrames(Network):
    """A network whose large frames never arrive, so that it gives up and resets its connections."""

    def take_frames(self) -> list[Frame]:
        return [frame for frame in super().take_frames() if len(glue(frame)) < 1000]


def test_a_transfer_that_the_network_gives_up_without_a_reason_is_noticed() -> None:
    world = World(Setting().config(), network=LosesLargeFrames)
    do(world, [GuestTransfers(down=3000)])
    with pytest.raises(AssertionError, match="a connection of port 50000 is reset without a reason"):
        world.finish()


class Restless(Network):
    """A network that has another frame whenever it is asked."""

    def take_frames(self) -> list[Frame]:
        return [*super().take_frames(), ethernet(bytes(6), self._context.config.mac, ARP, bytes(46))]


class AlwaysLate(Network):
    """A network whose deadline never passes."""

    def next_deadline(self) -> float | None:
        return 0.0


def test_a_network_that_does_not_come_to_rest_is_noticed() -> None:
    with pytest.raises(AssertionError, match="outputs without an end"):
        do(World(Setting().config(), network=Restless), [GuestConnects()])
    with pytest.raises(AssertionError, match=r"deadlines within 1\.0 s"):
        do(World(Setting().config(), network=AlwaysLate), [TimePasses(1.0)])


def test_a_name_server_that_cuts_its_answer_is_asked_by_a_stream() -> None:
    """And answers there; the guest learns the address."""
    world = World(Setting(names=NameMode.REAL).config())
    do(world, [GuestAsks(server="resolver", name="one.example.net"), HostAnswersName(twists="truncated")])
    assert [socket.remote for socket in world.sockets.streams()] == [SERVERS[0]]
    asked = len(world.frames_out)
    do(world, [HostAnswersName(pick=-1)])
    assert len(world.frames_out) == asked + 1
    assert world.frames_out[-1].endswith(ADDRESSES["server"])
    world.finish()


def test_a_name_server_that_sends_garbage_by_a_stream_is_left() -> None:
    world = World(Setting(names=NameMode.REAL).config())
    do(world, [GuestAsks(server="resolver", name="one.example.net"), HostAnswersName(twists="truncated")])
    do(world, [HostReplies(data=b"\x00\x00")])
    assert world.sockets.streams() == []
    assert [order.remote for order in world.sent_datagrams.values()] == list(SERVERS)
    world.finish()


@pytest.mark.parametrize("refuses", [b"\x05\xff", b"\x00"], ids=["no method", "another protocol"])
def test_a_proxy_that_answers_wrong_ends_the_connection(refuses: bytes) -> None:
    world = World(Setting(proxy=ProxyKind.SOCKS5).config(), connects=None)
    do(world, [GuestConnects(remote="proxied"), OutputsWait(), HostConnects(), HostReplies(data=refuses)])
    (socket,) = world.sockets.all.values()
    assert (socket.closed, socket.aborted) == (True, True)
    world.finish()


def test_the_program_answers_only_what_it_was_asked() -> None:
    world = World(Setting().config())
    do(world, [ServiceBegins(protocol=17), ProgramSends()])
    assert not world.frames_out
    do(world, [GuestSendsDatagram(remote="virtual", remote_port=53), ProgramSends()])
    assert len(world.frames_out) == 1


def test_a_flow_of_the_program_that_new_rules_end_is_not_ended_again() -> None:
    """The order that closes it is among the outputs that wait."""
    world = World(Setting(action=Action.ASK).config())
    do(world, [GuestSendsDatagram(), ProgramDecides(verdict=Serve())])
    do(world, [OutputsWait(5), Reconfiguration(change="refuse all"), ServiceEnds()])
    (flow,) = world.sockets.all.values()
    assert (flow.kind, flow.closed, flow.ended) == (Kind.FLOW, True, False)
    world.finish()
