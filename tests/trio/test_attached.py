"""Guests in namespaces that exist already."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest
import trio

from sansnet_core import addresses
from sansnet_trio.guest.attached import AttachedGuest
from sansnet_trio.guest.plan import GuestPlan
from sansnet_trio.guest.target import ExistingNamespace
from sansnet_trio.hostinfo import HostError, InterfaceAddress
from tests.lab.namespaces import held_namespace

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("one_thread")]

PLAN = GuestPlan(
    interface="eth7",
    mtu=1400,
    addresses=(InterfaceAddress(addresses.parse("10.7.0.2"), 24),),
    resolv_conf="nameserver 192.0.2.53\n",
    hostname="visitor",
)


def test_the_interface_is_there_until_the_tap_is_closed_and_files_and_name_are_left_alone() -> None:
    with held_namespace() as namespace:
        before = namespace.shell("cat /etc/resolv.conf; hostname; ip -o address").stdout
        with AttachedGuest.fork(ExistingNamespace.of_process(namespace.pid), lambda: (PLAN, "prepared")) as guest:
            ready = guest.receive_ready()
            assert (ready.link.mtu, ready.prepared, ready.warnings) == (1400, "prepared", ())
            assert "10.7.0.2/24" in namespace.shell("ip -o address show dev eth7 up").stdout
            os.close(ready.tap)
        assert namespace.shell("cat /etc/resolv.conf; hostname; ip -o address").stdout == before


def test_ready_waits_for_the_interface() -> None:
    async def main(guest: AttachedGuest[None]) -> None:
        with trio.fail_after(10):
            os.close((await guest.ready()).tap)

    with (
        held_namespace() as namespace,
        AttachedGuest.fork(ExistingNamespace.of_process(namespace.pid), lambda: (PLAN, None)) as guest,
    ):
        trio.run(main, guest)


def test_it_makes_sockets_in_the_guests_network() -> None:
    with (
        held_namespace() as namespace,
        AttachedGuest.fork(ExistingNamespace.of_process(namespace.pid), lambda: (PLAN, None)) as guest,
    ):
        os.close(guest.receive_ready().tap)
        with guest.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            namespace.connect(*listener.getsockname()).close()
        assert os.readlink(f"{guest.directory}/ns/net") == os.readlink(f"/proc/{namespace.pid}/ns/net")
        agent = os.readlink(guest.directory)
    assert not Path(agent).exists()


def test_an_exception_of_prepare_is_raised_here_and_leaves_nothing() -> None:
    def fail() -> tuple[GuestPlan, None]:
        raise HostError("nothing here")

    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    with held_namespace() as namespace:
        before = os.listdir("/proc/self/fd"), children.read_text()
        with (
            AttachedGuest.fork(ExistingNamespace.of_process(namespace.pid), fail) as guest,
            pytest.raises(HostError, match="nothing here"),
        ):
            guest.receive_ready()
        assert (os.listdir("/proc/self/fd"), children.read_text()) == before


def test_a_signal_before_it_is_ready_ends_it() -> None:
    def die() -> tuple[GuestPlan, None]:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError

    with (
        held_namespace() as namespace,
        AttachedGuest.fork(ExistingNamespace.of_process(namespace.pid), die) as guest,
        pytest.raises(EOFError),
    ):
        guest.receive_ready()
