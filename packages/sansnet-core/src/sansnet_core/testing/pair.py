"""A network with a guest on one side and a host on the other; time jumps from one deadline to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sansnet_core.addresses import Endpoint
from sansnet_core.config import Ipv4Config, Ipv6Config, Limits, LinkConfig, NetworkConfig
from sansnet_core.network import Network
from sansnet_core.notices import Notice
from sansnet_core.orders import Frame
from sansnet_core.testing.connection import GuestConnection
from sansnet_core.testing.guest import GuestStack
from sansnet_core.testing.host import HostScript, HostStream, ScriptedHost
from sansnet_core.testing.netem import Impairment, Netem
from sansnet_core.testing.packets import glue
from sansnet_core.testing.tcp_options import GuestTcpOptions

__all__ = ["GATEWAY", "GATEWAY6", "OUTSIDER", "OUTSIDER6", "SECRET", "SERVER", "SERVER6", "Pair", "make_config"]

GATEWAY: Final = bytes((10, 0, 2, 2))
GATEWAY6: Final = bytes.fromhex("fe80000000000000000000000000aaaa")
SERVER: Final = bytes((192, 0, 2, 80))
SERVER6: Final = bytes.fromhex("20010db8ffff00000000000000000080")
OUTSIDER: Final = Endpoint(bytes((198, 51, 100, 7)), 34567)
OUTSIDER6: Final = Endpoint(bytes.fromhex("20010db8eeee00000000000000000007"), 34567)
SECRET: Final = bytes(range(32))

_MAX_ROUNDS: Final = 10_000
"""At one instant; a network that still has outputs after them would never stop."""


def make_config(link: LinkConfig | None = None, limits: Limits | None = None) -> NetworkConfig:
    """The configuration that most tests use: both families, guest 10.0.2.15 and 2001:db8::15."""
    guest = GuestStack()
    return NetworkConfig(
        link=link or LinkConfig(mtu=1500, max_frame_size=1514),
        guest_mac=guest.mac,
        ipv4=Ipv4Config(address=guest.ipv4, prefix_length=24, gateway=GATEWAY),
        ipv6=Ipv6Config(address=guest.ipv6, gateway=GATEWAY6),
        limits=limits or Limits(),
        notices=True,
        router_advertisements=False,  # so that the network sends nothing without a cause
    )


class Pair:
    """A guest, a network and a host.

    Attributes:
        now: virtual time in seconds.
        sent: every frame from the network to the guest, with its time, as it was before the cable.
        notices: all notices of the network.
        batch: most frames handed to the network at a time; tests set it to show that it does not matter.
    """

    def __init__(
        self,
        config: NetworkConfig | None = None,
        script: HostScript | None = None,
        *,
        up: Impairment | None = None,
        down: Impairment | None = None,
        seed: int = 0,
        secret: bytes = SECRET,
        now: float = 1000.0,
    ) -> None:
        self.config = config or make_config()
        self.now = now
        self.network = Network(self.config, now=now, secret=secret)
        self.guest = GuestStack(vnet=self.config.link.vnet_header, gateway_mac=self.config.mac)
        self.guest.at(now)
        self.host = ScriptedHost(self.network, script)
        self.up = Netem(up or Impairment(), seed)
        self.down = Netem(down or Impairment(), seed + 1)
        self.sent: list[tuple[float, bytes]] = []
        self.notices: list[Notice] = []
        self.batch = 64

    def connect(
        self,
        options: GuestTcpOptions | None = None,
        *,
        port: int = 80,
        family: int = 4,
    ) -> GuestConnection:
        """The guest opens a connection to the server."""
        return self.guest.connect(
            (SERVER if family == 4 else SERVER6, port), options or GuestTcpOptions(), now=self.now
        )

    def established(
        self,
        options: GuestTcpOptions | None = None,
        *,
        family: int = 4,
    ) -> tuple[GuestConnection, HostStream]:
        """A connection, with the handshake done."""
        connection = self.connect(options, family=family)
        self.drive(lambda: connection.established)
        self.settle()
        return connection, self.host.stream

    def accepted(
        self,
        options: GuestTcpOptions | None = None,
        *,
        family: int = 4,
        port: int = 80,
    ) -> tuple[GuestConnection, HostStream]:
        """A connection of `OUTSIDER` to a port on which the guest listens, with the handshake done."""
        self.guest.listening[port] = options or GuestTcpOptions()
        stream = self.host.accept(OUTSIDER if family == 4 else OUTSIDER6, port, self.now)
        assert stream is not None
        self.drive(lambda: any(one.established for one in self.guest.connections.values()))
        self.settle()
        return next(reversed(self.guest.connections.values())), stream

    def settle(self) -> bool:
        """Move frames, orders and facts until nothing moves at this instant; whether anything did."""
        anything = False
        for _ in range(_MAX_ROUNDS):
            if not self._round():
                return anything
            anything = True
        raise AssertionError(f"still busy after {_MAX_ROUNDS} rounds at {self.now}")

    def _round(self) -> bool:
        now = self.now
        self.guest.at(now)
        self.up.put(self.guest.take_frames(), now)
        arrived = self.up.take(now)
        for start in range(0, len(arrived), self.batch):
            self.network.receive_frames(arrived[start : start + self.batch], now)
            self._outputs(now)
        moved = self.host.report(now)
        self._outputs(now)
        delivered = self.down.take(now)
        for frame in delivered:
            self.guest.receive(frame, now)
        return bool(arrived or delivered or moved)

    def _outputs(self, now: float) -> None:
        while True:
            orders = self.network.take_orders()
            self.host.obey(orders, now)
            frames = [self._checked(frame) for frame in self.network.take_frames()]
            self.sent += [(now, frame) for frame in frames]
            self.down.put(frames, now)
            more = self.network.take_orders()  # making frames may bring orders
            self.host.obey(more, now)
            if not (orders or frames or more):
                break
        self.notices += self.network.take_notices()

    def _checked(self, frame: Frame) -> bytes:
        data = glue(frame)
        link = self.config.link
        assert len(data) <= link.max_frame_size + (12 if link.vnet_header else 0), f"frame of {len(data)} bytes"
        return data

    @property
    def tcp_flows(self) -> int:
        """Connections that the network knows of."""
        return self.network.statistics().flows["tcp_flows"]

    def next_deadline(self) -> float | None:
        """The earliest deadline of the network, guest, host and cables; None if there is none."""
        parties = (self.network, self.guest, self.host, self.up, self.down)
        times = [time for party in parties if (time := party.next_deadline()) is not None]
        return min(times, default=None)

    def step(self) -> bool:
        """Settle, then jump to the next deadline and do what is due; False if there is no deadline."""
        self.settle()
        deadline = self.next_deadline()
        if deadline is None:
            return False
        self.now = max(self.now, deadline)
        self._expire()
        return True

    def _expire(self) -> None:
        network_deadline = self.network.next_deadline()
        if network_deadline is not None and network_deadline <= self.now:
            self.network.handle_deadline(self.now)
            following = self.network.next_deadline()
            assert following is None or following > self.now, "a deadline in the past after handle_deadline"
        self._outputs(self.now)
        self.guest.handle_deadline(self.now)
        self.settle()

    def drive(self, until: Callable[[], bool], *, limit: float = 600.0, steps: int = 100_000) -> None:
        """Let time pass until `until()` holds; fails after `limit` virtual seconds."""
        last = self.now + limit
        for _ in range(steps):
            self.settle()
            if until():
                return
            deadline = self.next_deadline()
            assert deadline is not None, "nothing will ever happen any more"
            assert deadline <= last, f"did not happen within {limit} s"
            self.step()
        raise AssertionError(f"did not happen within {steps} steps")

    def wait(self, seconds: float) -> None:
        """Let `seconds` pass."""
        end = self.now + seconds
        self.settle()
        while (deadline := self.next_deadline()) is not None and deadline <= end:
            self.step()
        self.now = end
        self.guest.at(end)
        self.settle()
