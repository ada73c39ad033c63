"""The surroundings of a network in a test: cables, the streams of a host, the TCP of a guest."""

from __future__ import annotations

from errno import ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from sansnet_core.config import LinkConfig
from sansnet_core.impairment import Distribution, Impairment
from sansnet_core.testing.host import HostScript
from sansnet_core.testing.strategies.parts import chance, choose
from sansnet_core.testing.tcp_options import GuestTcpOptions

__all__ = ["guest_tcp_options", "host_scripts", "impairments"]

_DELAYS: Final = (0.0, 0.001, 0.02, 0.3, 2.0)
_PROBABILITIES: Final = (0.01, 0.1, 0.3, 0.5)
_RATES: Final = (10e6, 1e6, 64e3, 9600.0)
_FAULTS: Final = ("loss", "duplicate", "reorder")
_CONNECTS: Final = (0, 0, 0, ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT, None)


def impairments(*, longest_loss: int | None = 3, corrupt: bool = False) -> SearchStrategy[Impairment]:
    """Cables from a perfect one to very bad ones.

    Args:
        longest_loss: most frames that vanish in a row. TCP gives a connection up after some retransmissions, so a test
            of streams that must arrive needs a limit. None for no limit.
        corrupt: whether some have wrong bits. A `GuestStack` takes a wrong checksum as a fault of the network.
    """
    return _impairments(longest_loss, corrupt)


@st.composite
def _impairments(draw: DrawFn, longest_loss: int | None, corrupt: bool) -> Impairment:
    values: dict[str, Any] = {}
    if chance(draw, 2):
        values["delay"] = choose(draw, _DELAYS)
    if chance(draw, 3):
        values["jitter"] = choose(draw, _DELAYS)
        values["distribution"] = choose(draw, tuple(Distribution))
        values["jitter_reorders"] = chance(draw, 2)
    if chance(draw, 3):
        values["rate"] = choose(draw, _RATES)
        values["queue"] = choose(draw, (None, 2, 10, 100))
    for fault in (*_FAULTS, *["corrupt"] * corrupt):
        if chance(draw, 3):
            values[fault] = choose(draw, _PROBABILITIES)
    if "loss" in values:
        values["longest_loss"] = longest_loss
        values["burst"] = choose(draw, (None, 2.0, 5.0))
    return Impairment(**values)


def host_scripts(*, connects: bool = False) -> SearchStrategy[HostScript]:
    """Behaviours of a host's streams.

    Args:
        connects: leave out hosts that cannot be connected to.
    """
    return _host_scripts(connects)


@st.composite
def _host_scripts(draw: DrawFn, connects: bool) -> HostScript:
    return HostScript(
        connect=0 if connects else choose(draw, _CONNECTS),
        connect_delay=choose(draw, (0.0, 0.05, 1.0)),
        accept=choose(draw, (None, 1000, 1)) if chance(draw, 2) else None,
        accept_interval=choose(draw, (0.01, 0.5)),
        read=choose(draw, (64 << 10, 1000, 1)),
        echo=chance(draw, 2),
        produce=bytes(choose(draw, (0, 1, 5000, 100_000))),
        end=chance(draw, 3),
    )


def guest_tcp_options(link: LinkConfig) -> SearchStrategy[GuestTcpOptions]:
    """Abilities of a guest's TCP.

    Args:
        link: the link of the guest, which bounds the sizes of segments.
    """
    return _guest_tcp_options(link)


@st.composite
def _guest_tcp_options(draw: DrawFn, link: LinkConfig) -> GuestTcpOptions:
    largest = max(link.mtu - 60 - 20, 1)  # with the headers of IPv6, and SACK
    offloads = link.vnet_header and chance(draw, 2)
    window = choose(draw, (256 << 10, 65535, 1000, 4 << 20))
    scales = (7, None, 0, 14)
    return GuestTcpOptions(
        mss=min(choose(draw, (1460, 536, 100, 8960, 65535)), largest),
        window=window,
        scale=choose(draw, [each for each in scales if window >> (each or 0)]),  # otherwise it could never receive
        sack=not chance(draw, 3),
        largest_segment=max(min(64_000, link.max_frame_size - 14 - 60 - 20), 0) if offloads and chance(draw, 2) else 0,
        partial=offloads,
        delayed_ack=choose(draw, (0.0, 0.04)),
        sequence=choose(draw, (1000, (1 << 32) - 5, (1 << 31) - 5)),
    )
