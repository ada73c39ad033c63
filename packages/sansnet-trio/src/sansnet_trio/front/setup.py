"""The network of a guest whose setup is known."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import TYPE_CHECKING, Final

from sansnet_trio.front.link import open_network
from sansnet_trio.network import GuestNetwork

if TYPE_CHECKING:
    import os

    from sansnet_core import Notice
    from sansnet_core.ports import ForwardRule
    from sansnet_trio.decisions import Decider
    from sansnet_trio.forward.forwards import Forwards
    from sansnet_trio.guest.socket_agent import GuestSockets
    from sansnet_trio.links import Link
    from sansnet_trio.links.observed import CaptureFile
    from sansnet_trio.plan.setup import Setup
    from sansnet_trio.recording.file import RecordingFile
    from sansnet_trio.services.services import Services

__all__ = ["network_of", "open_ports", "warn"]

_log: Final = logging.getLogger("sansnet")


def warn(*sentences: str) -> None:
    """Log the warnings about a guest."""
    for sentence in sentences:
        _log.warning("%s", sentence)


def network_of(
    link: Link,
    setup: Setup,
    *,
    services: Services | None = None,
    decide: Decider | None = None,
    capture: CaptureFile | None = None,
    record: str | os.PathLike[str] | RecordingFile | None = None,
    forwards: Forwards | None = None,
    on_notices: Callable[[Sequence[Notice]], None] | None = None,
    on_ready: Callable[[], None] = lambda: None,
) -> AbstractAsyncContextManager[GuestNetwork]:
    """`open_network` with the arguments that a setup has.

    Args:
        link: the guest's link.
        setup: the setup of its network.
        services: see `open_network`.
        decide: see `open_network`.
        capture: see `open_network`.
        record: see `open_network`.
        forwards: the forwarded ports.
        on_notices: see `Driver`.
        on_ready: see `open_network`.
    """
    return open_network(
        link,
        setup.config,
        services=services,
        decide=decide,
        capture=capture,
        record=record,
        forwards=forwards,
        interface=setup.interface,
        outbound4=setup.outbound_if4,
        outbound6=setup.outbound_if6,
        on_notices=on_notices,
        on_ready=on_ready,
        resolver=setup.resolver,
        impair_up=setup.impair_up,
        impair_down=setup.impair_down,
        impair_seed=setup.impair_seed,
    )


async def open_ports(rules: Iterable[ForwardRule], setup: Setup, guest: GuestSockets | None = None) -> Forwards | None:
    """Open forwarded ports; None if there are no rules. The caller closes them.

    Args:
        rules: the rules.
        setup: the setup of the guest's network.
        guest: makes sockets in the guest, if it is in a namespace.

    Raises:
        ForwardError: a port cannot be bound.
        ConfigError: the rules contradict each other.
    """
    rules = tuple(rules)
    if not rules:
        return None
    from sansnet_trio.forward.forwards import Forwards

    config = setup.config
    families = [version for version, family in ((4, config.ipv4), (6, config.ipv6)) if family is not None]
    forwards = Forwards(rules, families=families)
    if guest is not None:
        try:
            with suppress(OSError):  # `set_guest` reports it, if a rule needs such a socket
                await guest.prepare_sockets()
            forwards.set_guest(guest, setup.own)
        except BaseException:
            forwards.close()
            raise
    return forwards
