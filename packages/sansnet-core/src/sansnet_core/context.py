"""Everything a protocol module may touch: the configuration, the time, what is known of the guest, and the way out.

The only effects are `out` (frames, orders, notices), `timers` and `drop`: a reader who greps for them in a file sees
all that the file can do to the world.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from sansnet_core.addresses import is_link_local
from sansnet_core.config import NetworkConfig
from sansnet_core.dropped import KEPT, Dropped, Kept
from sansnet_core.entropy import Entropy
from sansnet_core.errors import Reason
from sansnet_core.orders import Endpoint, Frame, Order, SocketId
from sansnet_core.stations import Stations
from sansnet_core.timers import Timers

if TYPE_CHECKING:
    from sansnet_core.address_map import AddressMap
    from sansnet_core.egress import Egress
    from sansnet_core.notices import Notice
    from sansnet_core.proto.icmp_errors import IcmpErrors

__all__ = ["Context", "GuestAddresses", "Outbox"]


class Outbox:
    """What the driver will take."""

    __slots__ = ("frames", "notices", "orders")

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.orders: list[Order] = []
        self.notices: list[Notice] = []


class GuestAddresses:
    """What the guest's own packets tell about it.

    Attributes:
        mac: Ethernet address of the station that was heard last: during input from the guest, of the frame's sender.
            The broadcast address until the guest has spoken.
        stations: Ethernet address of each of its IP addresses that were heard.
        ipv4, ipv6, link_local: its addresses; None until configured or heard.
    """

    __slots__ = ("_learns", "_ours", "ipv4", "ipv6", "link_local", "mac", "stations")

    def __init__(self, config: NetworkConfig) -> None:
        self.mac = config.guest_mac or b"\xff" * 6
        self.stations = Stations(config.limits.stations)
        self.ipv4 = config.ipv4.address if config.ipv4 else None
        self.ipv6 = config.ipv6.address if config.ipv6 else None
        self.link_local: bytes | None = None
        self.configure(config)

    def configure(self, config: NetworkConfig) -> None:
        """What is not the guest's own follows the configuration."""
        self._learns = config.learn_addresses
        self._ours = {*config.map_host_loopback, *config.map_guest_address, *(match for match, _ in config.dns_forward)}
        self._ours.update(config.own_addresses or ())
        self._ours |= {family.gateway for family in (config.ipv4, config.ipv6) if family and family.gateway}

    def is_ours(self, address: bytes) -> bool:
        """Whether we have the address on the segment."""
        return address in self._ours

    def learn(self, source: bytes) -> None:
        """Its address changes to the source of its latest packet, which it may have; but none of ours becomes its own.

        Its link-local IPv6 address, which nobody configures, is learnt in any case.
        """
        if source in self._ours:
            return
        self.stations.learn(source, self.mac)
        if len(source) == 16 and is_link_local(source):
            self.link_local = source
        elif not self._learns:
            return
        elif len(source) == 4:
            self.ipv4 = source
        else:
            self.ipv6 = source

    def learn_station(self, address: bytes, mac: bytes) -> None:
        """A station says that it has an address."""
        if address not in self._ours:
            self.stations.learn(address, mac)

    def address_for(self, peer: bytes) -> bytes | None:
        """By which of its addresses a peer reaches it; None if none is known."""
        if len(peer) == 4:
            return self.ipv4
        if is_link_local(peer):
            return self.link_local or self.ipv6
        return self.ipv6 or self.link_local


class Context:
    """One per `Network`, shared by all its modules; no behaviour of its own.

    Attributes:
        now: seconds; set at the top of each input.
        gso_size: of the frame in hand: bytes per datagram of an offloaded run of UDP datagrams (USO), else 0.
        verify: whether the frame in hand wants its TCP, UDP or ICMP checksum verified.
        drops: how many times each `Reason` occurred.
        ignored: how many frames were part of a protocol and needed no answer; they are no drops.
    """

    __slots__ = (
        "_last_socket",
        "address_map",
        "ask",
        "config",
        "drops",
        "egress",
        "entropy",
        "gso_size",
        "guest",
        "icmp_errors",
        "ignored",
        "last_drops",
        "now",
        "out",
        "timers",
        "verify",
    )

    egress: Egress
    address_map: AddressMap
    icmp_errors: IcmpErrors
    ask: Callable[[bytes], None]
    """Asks the guest's stations which of them has an address."""

    def __init__(self, config: NetworkConfig, *, now: float, secret: bytes) -> None:
        self.config = config
        self.now = now
        self.out = Outbox()
        self.timers = Timers()
        self.entropy = Entropy(secret)
        self.guest = GuestAddresses(config)
        self.drops: Counter[Reason] = Counter()
        self.last_drops: dict[Reason, deque[Kept]] = {}
        self.ignored = 0
        self.gso_size = 0
        self.verify = False
        self._last_socket = 0

    def drop(self, reason: Reason, kept: Kept | None = None) -> None:
        """Count something that goes no further, and keep what it was among the last of its kind."""
        self.drops[reason] += 1
        if kept is not None:
            last = self.last_drops.get(reason)
            if last is None:
                last = self.last_drops[reason] = deque(maxlen=KEPT)
            last.append(kept)

    def drop_packet(self, reason: Reason, protocol: int, source: Endpoint, destination: Endpoint) -> None:
        """The same for a packet whose ends are known."""
        self.drop(reason, Dropped(protocol, source, destination))

    def ignore(self) -> None:
        """Count a frame that is part of a protocol and needs no answer."""
        self.ignored += 1

    def find_station(self, address: bytes) -> None:
        """Something begins outside for an address of the guest's: ask where that is, if it was not heard."""
        guest = self.guest
        if guest.stations.find(address) is None and address not in (guest.ipv4, guest.ipv6, guest.link_local):
            self.ask(address)

    def notify(self, notice: Notice) -> None:
        """Report something, if reports are wanted."""
        if self.config.notices:
            self.out.notices.append(notice)

    def new_socket(self) -> SocketId:
        """A socket name that was never used before."""
        self._last_socket += 1
        return SocketId(self._last_socket)
