"""Strategies of Hypothesis: configurations of networks, and the frames that their guests send.

`configs` makes configurations with limits from tiny to default. For one of them, `valid_frames` makes frames as a
correct guest sends them, `nearly_valid_frames` those with one thing wrong, `hostile_frames` any others, and `frames`
all three. `batches` makes lists of them, some of which are all the fragments of one packet. They are bytes, ready for
`Network.receive_frames`. `valid_messages` and `messages` make the payloads alone of DHCP, DNS, TLS and HTTP.

`impairments`, `host_scripts` and `guest_tcp_options` make what a `Pair` has around the network, `vhost_messages` and
`vring_descriptors` what the card of a virtual machine reads, and `settings` and `sequences` what
`sansnet_core.testing.operations` runs.

The simplest choice of everything comes first, so that Hypothesis reduces a failure to it.
They need Hypothesis: `pip install 'sansnet-core[hypothesis]'`.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("hypothesis") is None:
    raise ModuleNotFoundError(
        "sansnet_core.testing.strategies needs Hypothesis, which is not installed: install sansnet-core[hypothesis]",
        name="hypothesis",
    )

from sansnet_core.testing.strategies.configurations import configs, limits, links, rules
from sansnet_core.testing.strategies.frames import (
    MESSAGES,
    PROTOCOLS,
    batches,
    frames,
    hostile_frames,
    messages,
    nearly_valid_frames,
    valid_frames,
    valid_messages,
)
from sansnet_core.testing.strategies.machines import VhostMessage, vhost_messages, vring_descriptors
from sansnet_core.testing.strategies.sequences import sequences, settings
from sansnet_core.testing.strategies.surroundings import guest_tcp_options, host_scripts, impairments

__all__ = [
    "MESSAGES",
    "PROTOCOLS",
    "VhostMessage",
    "batches",
    "configs",
    "frames",
    "guest_tcp_options",
    "host_scripts",
    "hostile_frames",
    "impairments",
    "limits",
    "links",
    "messages",
    "nearly_valid_frames",
    "rules",
    "sequences",
    "settings",
    "valid_frames",
    "valid_messages",
    "vhost_messages",
    "vring_descriptors",
]
