"""Network cards over vhost-user, with QEMU's own features and with fewer."""

from __future__ import annotations

from typing import Final

import pytest

from tests.lab import SERVER4, SERVER6
from tests.lab.machines import INTERFACE
from tests.lab.noise import Noise
from tests.lab.qemu import NEW, OLD, VHOST_USER
from tests.lab.virtual_machines import Kind, Stable

OFFLOADS: Final = {
    "CSUM": 0,
    "GUEST_CSUM": 1,
    "GUEST_TSO4": 7,
    "GUEST_TSO6": 8,
    "HOST_TSO4": 11,
    "HOST_TSO6": 12,
    "MRG_RXBUF": 15,
    "INDIRECT_DESC": 28,
    "EVENT_IDX": 29,
}
"""Bits of virtio's features."""


@pytest.mark.parametrize("kind", [(OLD, VHOST_USER), (NEW, VHOST_USER)], ids="-".join, indirect=True)
def test_segments_are_large_at_the_mtu_of_ethernet(stable: Stable, kind: Kind, large_noise: Noise) -> None:
    """The offloads are agreed on, and used both ways."""
    with stable.served(kind, "--mtu", "1500") as machine:
        features = machine.shell("cat /sys/bus/virtio/devices/virtio0/features").stdout
        assert {name for name, bit in OFFLOADS.items() if features[bit] == "1"} == set(OFFLOADS)
        url = large_noise.url(SERVER4)
        machine.shell(f"wget -q -O /tmp/noise {url}; wget -q -O /dev/null --post-file /tmp/noise {url}")
        counted = machine.shell(
            f"cd /sys/class/net/{INTERFACE}/statistics; cat rx_bytes rx_packets tx_bytes tx_packets"
        )
    received, frames_in, sent, frames_out = (int(number) for number in counted.stdout.split())
    assert received > large_noise.size
    assert sent > large_noise.size
    # One way each frame is of data, or acknowledges some; so these are bounds for both together.
    assert frames_in + frames_out < (received + sent) / 8192


@pytest.mark.parametrize("kind", [(NEW, VHOST_USER)], ids="-".join, indirect=True)
@pytest.mark.parametrize(
    "properties",
    [
        "mrg_rxbuf=off",
        "event_idx=off,indirect_desc=off",
        "csum=off",
        "guest_csum=off",
        "mrg_rxbuf=off,guest_tso4=off,guest_tso6=off,host_tso4=off,host_tso6=off",
        "host_mtu=9000,rx_queue_size=1024",
    ],
)
def test_files_pass_whole_with_fewer_features(stable: Stable, kind: Kind, noise: Noise, properties: str) -> None:
    with stable.served(kind, properties=properties) as machine:
        assert ("host_mtu" in properties) == ("mtu 9000" in machine.shell(f"ip link show dev {INTERFACE}").stdout)
        for server in (SERVER4, SERVER6):
            down = machine.shell(f"wget -q -O /tmp/noise {noise.url(server)}; sha256sum </tmp/noise")
            assert down.stdout.split()[0] == noise.digest
            up = machine.shell(f"wget -q -O - --post-file /tmp/noise {noise.url(server)}")
            assert up.stdout == noise.digest
