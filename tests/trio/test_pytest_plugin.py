"""The fixtures of the published kit, here and in a project of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import trio

from sansnet_core.testing import Impairment
from sansnet_trio import Guest, GuestStream, NamespaceOptions, Services
from sansnet_trio.testing import SimulatedGuest, guest_obstacle
from sansnet_trio.testing.pytest_plugin import RunWithGuest

OWN_TEST = """
import trio
from sansnet_core.testing import Impairment

def test_virtual_time(simulated_guest):
    async def check(guest):
        return await guest.ping("192.0.2.1")

    assert simulated_guest(check, cable=Impairment(delay=20.0)) == 40.0
"""
OWN_PROPERTY = """
from hypothesis import given, settings
from sansnet_core.testing.strategies import impairments

@settings(settings.get_profile("ci"), max_examples=3)
@given(cable=impairments())
def test_any_cable(simulated_guest, cable):
    async def check(guest):
        return guest.ipv4

    assert simulated_guest(check, cable=cable) is not None
"""
REAL_TEST = """
def test_needs_a_guest(real_guest):
    raise AssertionError("this machine can make guests")
"""
UNUSED = """
import sys

def test_nothing():
    pass

def pytest_sessionfinish():
    heavy = {"trio", "pyroute2", "sansnet_core", "sansnet_trio.driver", "sansnet_trio.testing.guest"}
    print("loaded:", sorted(heavy & sys.modules.keys()))
"""


def run(directory: Path, *prefix: str, **files: str) -> str:
    """The output of pytest in a project with these files."""
    for name, text in files.items():
        (directory / f"{name}.py").write_text(text)
    command = [*prefix, sys.executable, "-m", "pytest", "-q", "-rs", "-s", "-W", "error", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=100, check=False)
    return done.stdout + done.stderr


def test_a_function_runs_in_virtual_time(simulated_guest: RunWithGuest) -> None:
    async def check(guest: SimulatedGuest) -> float:
        return await guest.ping("192.0.2.1")

    assert simulated_guest(check, cable=Impairment(delay=0.5)) == 1.0


def test_a_function_for_which_nothing_happens_any_more_fails(simulated_guest: RunWithGuest) -> None:
    async def wait(guest: SimulatedGuest) -> None:
        await guest.open_datagrams().receive()

    with pytest.raises(trio.TooSlowError):
        simulated_guest(wait, limit=1e6)


@pytest.mark.slow
def test_a_project_of_its_own_has_the_fixtures(tmp_path: Path) -> None:
    assert "1 passed" in run(tmp_path, test_own=OWN_TEST)


@pytest.mark.slow
def test_a_property_of_hypothesis_has_the_fixtures(tmp_path: Path) -> None:
    assert "1 passed" in run(tmp_path, test_own=OWN_PROPERTY)


@pytest.mark.slow
def test_a_run_that_uses_no_fixture_loads_nothing(tmp_path: Path) -> None:
    assert "loaded: []" in run(tmp_path, conftest=UNUSED, test_none=UNUSED)


@pytest.mark.kernel
def test_a_real_guest_reaches_a_service_of_the_test(
    real_guest: Callable[..., AbstractAsyncContextManager[Guest]],
) -> None:
    async def main() -> bytes:
        services = Services()

        async def greet(stream: GuestStream) -> None:
            await stream.send_all(b"hello")

        script = "import socket; print(socket.create_connection(('10.0.2.2', 80)).recv(10).decode())"
        async with trio.open_nursery() as nursery:
            await nursery.start(services.serve_tcp, greet, 80)
            opened = real_guest(
                [sys.executable, "-c", script], NamespaceOptions.made_up(), services=services, stdout=subprocess.PIPE
            )
            async with opened as guest:
                assert guest.stdout is not None
                output = b"".join([part async for part in guest.stdout])
                assert await guest.wait() == 0
            nursery.cancel_scope.cancel()
        return output

    assert trio.run(main) == b"hello\n"


@pytest.mark.kernel
def test_a_machine_that_can_make_guests_has_no_obstacle() -> None:
    assert guest_obstacle() is None


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        ("echo 0 > /proc/sys/user/max_user_namespaces", "no more namespaces (user) are allowed here"),
        ("mount --bind /dev/null /dev/net/tun", "a network namespace with a tap cannot be made"),
        ("mount -t tmpfs none /dev/net", "there is no /dev/net/tun; load the module: modprobe tun"),
    ],
)
def test_a_machine_that_cannot_make_guests_skips_with_the_reason(tmp_path: Path, prepare: str, reason: str) -> None:
    prefix = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", f'{prepare} && exec "$@"', "sh"]
    output = run(tmp_path, *prefix, test_real=REAL_TEST)
    assert "1 skipped" in output, output
    assert f"this machine cannot make guests: {reason}" in " ".join(output.split()), output
