"""The back-end ends in the middle of traffic, and another one takes its place: QEMU connects again by itself."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Final

import pytest

from tests.lab import Lab, served
from tests.lab.machines import serving
from tests.lab.noise import Noise
from tests.lab.qemu import NEW, OLD, STREAM, VHOST_USER
from tests.lab.virtual_machines import Kind, Stable

RECONNECTING: Final = [(NEW, STREAM), (OLD, VHOST_USER), (NEW, VHOST_USER)]
"""QEMU 7.2 has no reconnection of a stream."""

SENDERS: Final = {
    # The data must not fill the socket. With a frame that waits there, QEMU 10 never sends any again.
    STREAM: "while head -c 10000 /dev/zero; do usleep 20000; done",
    VHOST_USER: "cat /dev/zero",
}

COUNT_RESETS: Final = "awk '/^Tcp:/ { count = $9 } END { print count }' /proc/net/snmp"
"""How many of the guest's connections were reset (EstabResets)."""


def swallow(stream: socket.socket) -> None:
    while stream.recv(1 << 16):
        pass


@pytest.mark.parametrize("kind", RECONNECTING, ids="-".join, indirect=True)
def test_a_back_end_that_was_killed_is_replaced(
    lab: Lab, stable: Stable, kind: Kind, server: str, large_noise: Noise, tmp_path: Path
) -> None:
    """New connections work at once, and old ones are reset when they send."""
    path = tmp_path / "socket"
    with (
        served(lab.upstream.listen(server), swallow) as port,
        serving(lab, *kind.serve_options, path=path) as first,
        stable.machine(kind, path, reconnects=True) as machine,
    ):
        machine.load_driver()
        machine.configure()
        begun = f"""
            ({SENDERS[kind.link]} | nc {server} {port}; touch /tmp/ended) >/dev/null 2>&1 &
            wget -q -O /dev/null {large_noise.url(server)} &
            usleep 200000
            [ ! -e /tmp/ended ]
            """
        assert machine.shell(begun + COUNT_RESETS).stdout == "0\n"
        first.process.kill()
        first.process.wait(10)
        with serving(lab, *kind.serve_options, path=path) as second:
            assert second.says("a guest has connected")
            down = machine.shell(f"wget -q -O - {large_noise.url(server)} | sha256sum")
            assert down.stdout.split()[0] == large_noise.digest, down.stdout
            ended = f"until [ -e /tmp/ended ]; do usleep 10000; done; {COUNT_RESETS}"
            # The sender's, and that of the first wget if it had something to say before it was forgotten
            assert machine.shell(ended).stdout in ("1\n", "2\n")
            assert second.end() == 0
