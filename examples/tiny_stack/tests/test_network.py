"""The stack as the guest of a network, in virtual time."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_stack import Reply, Stack

from sansnet_core import Network, NetworkConfig
from sansnet_core.testing import SECRET, SERVER, Impairment, Netem, ScriptedHost, make_config
from sansnet_core.testing.packets import glue
from sansnet_core.testing.strategies import impairments


class Laboratory:
    """The stack, two cables, a network and a host that answers pings."""

    def __init__(self, config: NetworkConfig, cable: Impairment) -> None:
        assert config.ipv4 is not None
        assert config.guest_mac is not None
        self.now = 0.0
        self.stack = Stack(config.guest_mac, config.ipv4.address, config.mac)
        self.network = Network(config, now=self.now, secret=SECRET)
        self.host = ScriptedHost(self.network)
        self.up, self.down = Netem(cable, seed=1), Netem(cable, seed=2)

    def settle(self) -> None:
        """Carry frames and orders until nothing moves at this instant."""
        moved = True
        while moved:
            frames = self.up.take(self.now)
            self.network.receive_frames(frames, self.now)
            pings = len(self.host.echoes)
            self.host.obey(self.network.take_orders(), self.now)
            for ping in self.host.echoes[pings:]:
                source = self.host.echo_sockets[ping.socket].remote
                self.network.echo_received(ping.socket, source, ping.sequence, bytes(ping.data), 64, 0, self.now)
            self.down.put([glue(frame) for frame in self.network.take_frames()], self.now)
            received = self.down.take(self.now)
            for frame in received:
                self.up.put(self.stack.receive(frame), self.now)
            moved = bool(frames or received)

    def run(self, seconds: float) -> None:
        """Let virtual time pass: it jumps from one deadline to the next."""
        end = self.now + seconds
        self.settle()
        parties = (self.network, self.up, self.down)
        while (
            deadline := min((at for each in parties if (at := each.next_deadline()) is not None), default=end)
        ) < end:
            self.now = max(self.now, deadline)
            self.network.handle_deadline(self.now)
            self.settle()
        self.now = end


@settings(deadline=None, max_examples=50)
@given(cable=impairments(), data=st.binary(max_size=1400))
def test_a_ping_that_is_repeated_comes_back(cable: Impairment, data: bytes) -> None:
    laboratory = Laboratory(make_config(), cable)
    for sequence in range(60):
        laboratory.up.put([laboratory.stack.ping(SERVER, sequence, data)], laboratory.now)
        laboratory.run(20.0)
        if laboratory.stack.replies:
            break
    assert {reply.data for reply in laboratory.stack.replies} == {data}


def test_a_ping_over_a_perfect_cable_comes_back_once() -> None:
    laboratory = Laboratory(make_config(), Impairment())
    laboratory.up.put([laboratory.stack.ping(SERVER, 7, b"data")], laboratory.now)
    laboratory.run(1.0)
    assert laboratory.stack.replies == [Reply(SERVER, 7, b"data")]
