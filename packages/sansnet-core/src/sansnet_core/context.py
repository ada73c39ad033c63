"""The state that all protocol modules of one network share.

A module changes something outside itself only through `out` (orders, notices), `egress` (frames), `timers`, `guest`,
`drop`, `drop_packet`, `ignore` and `notify`: search a file for these names to find all its effects.
"""

from __future__ import annotations

from collections import Counter, deque

from sansnet_core.address_map import AddressMap
from sansnet_core.addresses import Prefix
from sansnet_core.config import NetworkConfig
from sansnet_core.dropped import KEPT, Dropped, Kept
from sansnet_core.egress import Egress
from sansnet_core.entropy import Entropy
from sansnet_core.errors import Reason
from sansnet_core.expected_headers import ExpectedHeaders
from sansnet_core.guest_addresses import GuestAddresses
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.notices import FlowRefused, NameAsked, Notice
from sansnet_core.orders import Endpoint, SocketId
from sansnet_core.outbox import Outbox
from sansnet_core.policy.evaluator import Evaluator
from sansnet_core.services import ServiceTable
from sansnet_core.targets import Bindings, Targets
from sansnet_core.timers import Timers
from sansnet_core.token_bucket import TokenBucket

__all__ = ["Context", "make_evaluator", "rules_differ"]


@mypyc_attr(allow_interpreted_subclasses=True)
class Context:
    """One per `Network`, handed to each of its modules.

    Attributes:
        config: replaced by `Network.reconfigure`; `link`, `mac`, `limits` and the switches of services never change.
        now: seconds; set at the start of each input.
        out: outputs for the driver.
        timers: deadlines of all modules.
        entropy: identifications, sequence numbers and random intervals.
        guest: the guest's addresses.
        policy: the rules about new flows.
        bindings: the addresses that stand for names; None without a resolver of our own.
        targets: where new flows of the guest lead.
        services: the services of the program.
        notices: whether notices are wanted.
        refusals_unreported: notices about refused flows and names that were left out, because there were too many.
        address_map: which address of one side is which of the other.
        egress: sends frames to the guest.
        expected: the headers that the guest's frames are expected to have.
        gso_size: bytes per datagram if the current frame is an offloaded run of UDP datagrams (USO), else 0.
        verify: whether to verify the TCP, UDP or ICMP checksum of the current frame.
        drops: how many times each `Reason` occurred.
        last_drops: for each `Reason`, the latest packets dropped, at most `KEPT`.
        ignored: frames that belong to a protocol and need no answer; not counted as drops.
    """

    __slots__ = (
        "_last_socket",
        "_limited",
        "address_map",
        "bindings",
        "config",
        "drops",
        "egress",
        "entropy",
        "expected",
        "gso_size",
        "guest",
        "ignored",
        "last_drops",
        "notices",
        "now",
        "out",
        "policy",
        "refusals_unreported",
        "services",
        "targets",
        "timers",
        "verify",
    )

    def __init__(self, config: NetworkConfig, *, now: float, secret: bytes) -> None:
        self.config = config
        self.now = now
        self.out = Outbox()
        self.timers = Timers()
        self.entropy = Entropy(secret)
        self.guest = GuestAddresses(config)
        self.address_map = AddressMap(config)
        self.egress = Egress(config.link, config.mac, self.guest, self.out, self.entropy)
        self.expected = ExpectedHeaders(config, self.guest)
        self.drops: Counter[Reason] = Counter()
        self.last_drops: dict[Reason, deque[Kept]] = {}
        self.ignored = 0
        self.gso_size = 0
        self.verify = False
        self.policy = make_evaluator(config)
        self.bindings: Bindings | None = None
        self.targets = Targets(self)
        self.services = ServiceTable()
        self.notices = config.notices
        self.refusals_unreported = 0
        rate, burst = config.limits.refusal_rate, config.limits.refusal_burst
        self._limited: dict[type, TokenBucket] = {
            kind: TokenBucket(rate, burst, now) for kind in (FlowRefused, NameAsked)
        }
        self._last_socket = 0

    def drop(self, reason: Reason, kept: Kept | None = None) -> None:
        """Count a drop; keep `kept` among the latest packets dropped for this reason."""
        self.drops[reason] += 1
        if kept is not None:
            last = self.last_drops.get(reason)
            if last is None:
                last = self.last_drops[reason] = deque(maxlen=KEPT)
            last.append(kept)

    def drop_packet(self, reason: Reason, protocol: int, source: Endpoint, destination: Endpoint) -> None:
        """Count a drop of a packet whose endpoints are known."""
        self.drop(reason, Dropped(protocol, source, destination))

    def ignore(self) -> None:
        """Count a frame that is part of a protocol and needs no answer."""
        self.ignored += 1

    def notify(self, notice: Notice) -> None:
        """Add a notice, if notices are wanted.

        Those about refused flows and about names have a limit: a port scan makes thousands.
        """
        if not self.notices:
            return
        limit = self._limited.get(type(notice))
        if limit is not None and not limit.take(self.now):
            self.refusals_unreported += 1
            return
        self.out.notices.append(notice)

    def new_socket(self) -> SocketId:
        """A socket name that was never used before."""
        self._last_socket += 1
        return SocketId(self._last_socket)


def make_evaluator(config: NetworkConfig) -> Evaluator:
    """The rules of a configuration."""
    resolvers = (*config.dns_servers, *(match for match, _ in config.dns_forward))
    # Where an alias leads to the address that the guest and the host share, that is the host
    shared = [family.address for family in (config.ipv4, config.ipv6) if family is not None and family.address]
    aliased = {len(alias) for alias in config.map_guest_address}
    host = [*config.host_addresses, *(Prefix(address) for address in shared if len(address) in aliased)]
    translators = config.translators
    return Evaluator(config.rules, config.default_action, host=host, resolvers=resolvers, translators=translators)


def rules_differ(old: NetworkConfig, new: NetworkConfig) -> bool:
    """Whether two configurations may allow different flows."""
    fields = ("rules", "default_action", "resolver", "host_addresses", "translators", "proxies")
    return any(getattr(old, field) != getattr(new, field) for field in fields)
