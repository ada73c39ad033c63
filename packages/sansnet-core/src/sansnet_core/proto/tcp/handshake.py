"""Negotiation by the options of the two SYNs: segment sizes, window scales, SACK."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from sansnet_core.config import NetworkConfig
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.wire.tcp import (
    MAX_WINDOW_SCALE,
    TcpOptions,
    mss_option,
    sack_permitted_option,
    window_scale_option,
)

__all__ = ["ALL_OPTIONS", "Negotiation", "Terms", "negotiate"]

MIN_MSS: Final = 88
"""Bytes. A smaller MSS of the guest counts as this one, to prevent a flood of tiny segments (Linux's TCP_MIN_MSS)."""
DEFAULT_MSS: Final = {4: 536, 6: 1220}
"""IP version -> MSS if the option is absent (RFC 9293, 3.7.1)."""
HEADERS: Final = {4: 40, 6: 60}
"""IP version -> bytes of IP and TCP headers without options."""
ETHERNET: Final = 14
MAX_FIELD: Final = 65535
"""Largest value of IP's length fields, and of a window that is not scaled."""
_MAX_KEPT: Final = 64
"""Terms that are kept; the guests choose their options."""
MAX_SACK_BLOCKS: Final = 4
"""As many blocks as fit into 40 bytes of options without timestamps. A small MTU has room for fewer."""
ALL_OPTIONS: Final = TcpOptions(MAX_FIELD, 0, True, ())
"""The options of a guest that supports everything that we support. Our first SYN offers terms as for such a guest."""


class Terms(NamedTuple):
    """The terms of a connection.

    Attributes:
        own_mss: most payload bytes of a segment from the guest.
        mss: most payload bytes of a segment to the guest.
        frame_payload: most payload bytes to the guest in one piece: whole segments, which are one frame with offload.
        window: largest window to offer, in bytes.
        own_scale: shift of the windows that we offer (RFC 7323, 2.2); None if nothing is scaled.
        scale: shift of the guest's windows.
        sack: whether both sides permit SACK (RFC 2018, 2).
        sack_blocks: most SACK blocks of an acknowledgment.
    """

    own_mss: int
    mss: int
    frame_payload: int
    window: int
    own_scale: int | None
    scale: int
    sack: bool
    sack_blocks: int

    def syn_options(self) -> bytes:
        """The options of our SYN or SYN-ACK."""
        return _syn_options(self.own_mss, self.own_scale, self.sack)


@lru_cache(64)
def _syn_options(mss: int, scale: int | None, sack: bool) -> bytes:
    options = mss_option(mss)
    if scale is not None:
        options += window_scale_option(scale)
    if sack:
        options += sack_permitted_option()
    return options


def negotiate(config: NetworkConfig, version: int, options: TcpOptions) -> Terms:
    """The terms that follow from the options of a guest's SYN or SYN-ACK.

    Args:
        config: of the network.
        version: 4 or 6.
        options: the guest's, or `ALL_OPTIONS` for our offer to it.
    """
    link = config.link
    own_mss = link.mtu - HEADERS[version]
    mss = min(max(options.mss or DEFAULT_MSS[version], MIN_MSS), own_mss)
    room = MAX_FIELD
    if link.tso4 if version == 4 else link.tso6:
        room = min(link.max_frame_size - ETHERNET, room)
    frame_payload = max((room - HEADERS[version]) // mss, 1) * mss
    sack_blocks = min((own_mss - 4) // 8, MAX_SACK_BLOCKS)
    sack = options.sack_permitted
    if options.window_scale is None:
        window = min(config.limits.tcp_window, MAX_FIELD)
        return Terms(own_mss, mss, frame_payload, window, None, 0, sack, sack_blocks)
    window = min(config.limits.tcp_window, MAX_FIELD << MAX_WINDOW_SCALE)
    own_scale = max(window.bit_length() - 16, 0)
    return Terms(own_mss, mss, frame_payload, window, own_scale, options.window_scale, sack, sack_blocks)


@mypyc_attr(allow_interpreted_subclasses=True)
class Negotiation:
    """Negotiates, and keeps the terms: most connections of a guest have the same, and share one object then.

    Args:
        config: of the network; its link and limits never change.
    """

    __slots__ = ("_config", "_known")

    def __init__(self, config: NetworkConfig) -> None:
        self._config = config
        self._known: dict[tuple[int, int | None, int | None, bool], Terms] = {}

    def terms(self, version: int, options: TcpOptions) -> Terms:
        """See `negotiate`."""
        key = (version, options.mss, options.window_scale, options.sack_permitted)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _MAX_KEPT:
                self._known.clear()
            found = self._known[key] = negotiate(self._config, version, options)
        return found
