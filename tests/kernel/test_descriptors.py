"""When descriptors run out: what the guest gave up is closed, what goes on goes on, and the status is the command's."""

from __future__ import annotations

import resource
import selectors
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import pytest

from tests.lab import HOST4, SERVER4, Echo, Guest, Lab, eventually, served
from tests.lab.namespaces import held_namespace, running
from tests.lab.processes import outside

SILENT4: Final = "203.0.113.99"
SILENT6: Final = "2001:db8:2::99"
"""Addresses of upstream's whose packets are dropped on arrival."""

WARNING: Final = "sansnet: no descriptor is left for more connections, so some of them wait or fail; "

CONNECTS: Final = f"""
import socket, time
made = []
for number in range(300):
    family, address = ((socket.AF_INET, "{SILENT4}"), (socket.AF_INET6, "{SILENT6}"))[number % 2]
    made.append(socket.socket(family))
    made[-1].setblocking(False)
    made[-1].connect_ex((address, 1000 + number))
    if number > 100:
        time.sleep(0.01)
        made.pop(0).close()
"""
"""A guest that asks 300 ports, of which none answers, and gives each up after a while without a word."""


@pytest.fixture(scope="module")
def silence(lab: Lab) -> Iterator[None]:
    lab.upstream.shell(
        f"""
        nft add table inet silence
        nft 'add chain inet silence arriving {{ type filter hook prerouting priority -1; }}'
        nft add rule inet silence arriving ip daddr {SILENT4} drop
        nft add rule inet silence arriving ip6 daddr {SILENT6} drop
        """
    )
    yield
    lab.upstream.shell("nft delete table inet silence")


def limited(limit: str, command: list[str]) -> list[str]:
    return ["prlimit", f"--nofile={limit}", "--", *command]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, text=True, capture_output=True, timeout=60, check=False, stdin=subprocess.DEVNULL)


@contextmanager
def limited_guest(lab: Lab, limit: str, *options: str) -> Iterator[tuple[Guest, list[str]]]:
    """A guest of a sansnet that may have so many descriptors, and, behind the block, the lines that it said."""
    command = lab.sansnet_command(list(options), ["sh", "-c", "echo $$; exec cat"], user=None, before="")
    said: list[str] = []
    with (
        tempfile.TemporaryFile("w+") as errors,
        running(limited(limit, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        guest = Guest(outside(process.pid, int(process.stdout.readline())), process.pid)
        assert eventually(guest.is_served)
        yield guest, said
        process.stdin.close()
        assert process.wait(10) == 0
        errors.seek(0)
        said += errors.read().splitlines()


@pytest.mark.usefixtures("silence")
def test_connects_that_the_guest_gave_up_do_not_keep_others_out_nor_change_the_status(lab: Lab) -> None:
    script = f"{shlex.quote(sys.executable)} -c {shlex.quote(CONNECTS)}; ping -q -c1 -W5 {SERVER4}; exit 7"
    done = run(limited("256:256", lab.sansnet_command([], ["sh", "-c", script], user=None, before="")))
    assert done.returncode == 7
    assert " 0% packet loss" in done.stdout
    [warning] = done.stderr.splitlines()
    assert warning.startswith(WARNING)


@pytest.mark.usefixtures("silence")
def test_what_the_guest_gave_up_is_closed_within_seconds(lab: Lab) -> None:
    with lab.guest() as guest:
        idle = guest.descriptors()
        guest.run(sys.executable, "-c", CONNECTS)
        assert guest.descriptors() > idle + 50
        assert eventually(lambda: guest.descriptors() <= idle, seconds=20)


@pytest.mark.usefixtures("silence")
def test_a_guest_that_still_waits_is_not_given_up(lab: Lab) -> None:
    """Its SYNs come at growing intervals, and when the network is back, the connection is made."""
    address = "203.0.113.98"
    lab.upstream.shell(
        f"""
        ip address add {address}/32 dev lo
        nft 'add chain inet silence later {{ type filter hook prerouting priority -1; }}'
        nft add rule inet silence later ip daddr {address} drop
        """
    )
    with lab.guest() as guest, served(lab.upstream.listen(address), Echo.stream) as port:
        before = lab.host.counter("Tcp", "ActiveOpens")
        near = guest.open_socket(socket.AF_INET, socket.SOCK_STREAM, timeout=60)
        near.setblocking(False)
        near.connect_ex((address, port))
        time.sleep(9)
        assert lab.host.counter("Tcp", "ActiveOpens") == before + 1
        lab.upstream.shell("nft flush chain inet silence later")
        near.settimeout(60)
        with near:
            near.sendall(b"x")
            assert near.recv(1) == b"x"
        assert lab.host.counter("Tcp", "ActiveOpens") == before + 1


def test_outsiders_without_end_neither_end_nor_busy_it(lab: Lab) -> None:
    with (
        limited_guest(lab, "128:128", "-t", "8301", "-T", "7301") as (guest, said),
        guest.listen("0.0.0.0", 8301),
        lab.host.listen("127.0.0.1", 7301),
    ):
        with ExitStack() as stack:
            for namespace, address, port in (lab.upstream, HOST4, 8301), (guest, "127.0.0.1", 7301):
                for _ in range(300):
                    near = namespace.open_socket(socket.AF_INET, socket.SOCK_STREAM)
                    stack.callback(near.close)
                    near.setblocking(False)
                    near.connect_ex((address, port))
            time.sleep(1)
            used = guest.processor_time()
            time.sleep(2)
            assert guest.processor_time() - used < 0.5
        with served(lab.upstream.listen(SERVER4), Echo.stream) as port:
            assert eventually(lambda: _works(guest, SERVER4, port), seconds=20)
    [warning] = said
    assert warning.startswith(WARNING)


def test_with_few_descriptors_all_forwarded_connections_are_served_in_turn(lab: Lab) -> None:
    """From the host's loopback, from outside and from the guest: none is reset, and none is forgotten."""
    with (
        limited_guest(lab, "64:64", "-t", "8302", "-T", "7302") as (guest, said),
        served(guest.listen("0.0.0.0", 8302), Echo.stream),
        served(lab.host.listen("127.0.0.1", 7302), Echo.stream),
        ExitStack() as stack,
    ):
        waiting = selectors.DefaultSelector()
        stack.callback(waiting.close)
        for namespace, address, port in (
            (lab.host, "127.0.0.1", 8302),
            (lab.upstream, HOST4, 8302),
            (guest, "127.0.0.1", 7302),
        ):
            for _ in range(25):
                near = stack.enter_context(namespace.connect(address, port))
                near.sendall(b"x")
                waiting.register(near, selectors.EVENT_READ)
        while waiting.get_map():
            ready = waiting.select(20)
            assert ready, f"{len(waiting.get_map())} connections are forgotten"
            for key, _ in ready:
                answered = key.fileobj
                assert isinstance(answered, socket.socket)
                assert answered.recv(1) == b"x"
                waiting.unregister(answered)
                answered.close()
    [warning] = said
    assert warning.startswith(WARNING)


def _works(guest: Guest, address: str, port: int) -> bool:
    try:
        with guest.connect(address, port) as near:
            near.settimeout(2)
            near.sendall(b"x")
            return near.recv(1) == b"x"
    except OSError:
        return False


@pytest.mark.parametrize(
    "failure",
    [
        "OSError(errno.ENFILE, os.strerror(errno.ENFILE))",
        "OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))",
        "FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), '/proc')",
        "MemoryError()",
    ],
)
@pytest.mark.parametrize("command", ["exit 7", "sleep 60 & exit 7"], ids=["alone", "a process is left"])
def test_what_fails_after_the_commands_end_does_not_change_its_status(lab: Lab, failure: str, command: str) -> None:
    """Whether the rest of sansnet is loaded for it or not: see `sansnet_cli.run.early_end`."""
    script = f"""
import errno, os, sys
from sansnet_trio.guest.command import CommandGuest
def fail_now(guest):
    raise {failure}
async def fail(guest):
    fail_now(guest)
CommandGuest.end_remaining, CommandGuest.end_remaining_now = fail, fail_now
from sansnet_cli.main import main
sys.argv = ["sansnet", "run", "--", "sh", "-c", {command!r}]
main()
"""
    done = run(lab.host.command(sys.executable, "-W", "error", "-c", script))
    assert done.returncode == 7
    [warning] = done.stderr.splitlines()
    assert warning.startswith("sansnet: the command has ended, but ")


def hard_limit(least: int) -> str:
    """A soft limit of 1024 and a hard one that is enough."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert hard == resource.RLIM_INFINITY or hard >= least
    return f"1024:{least}"


def test_a_command_has_its_own_limit_though_many_ports_are_forwarded(lab: Lab) -> None:
    command = lab.sansnet_command(["-t", "10000-12000"], ["sh", "-c", "ulimit -Sn"], user=None, before="")
    done = run(limited(hard_limit(20_000), command))
    assert (done.returncode, done.stdout, done.stderr) == (0, "1024\n", "")


@pytest.mark.parametrize(
    "command", [["attach", "-t", "10000-12000"], ["pasta", "-f", "--config-net", "-t", "10000-12000"]]
)
def test_many_ports_may_lead_to_a_namespace_that_exists(lab: Lab, command: list[str]) -> None:
    with held_namespace() as visited:
        line = [sys.executable, "-W", "error", "-m", "sansnet_cli", *command, str(visited.pid)]
        with running(limited(hard_limit(20_000), lab.host.command(*line)), stderr=subprocess.PIPE) as process:
            listening = "ss --no-header --listening --tcp --numeric 'sport = 11999'"
            assert eventually(lambda: bool(lab.host.shell(listening).stdout) or process.poll() is not None)
            assert process.poll() is None
