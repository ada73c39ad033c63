"""The filters of all profiles, run by an interpreter over all numbers and many arguments."""

from __future__ import annotations

from typing import Final

import pytest

from sansnet_trio.sandbox import profiles
from sansnet_trio.sandbox.call_names import name_of
from sansnet_trio.sandbox.mode import Mode
from sansnet_trio.sandbox.profile import OWN_PROCESS, Argument, Group, Profile, Rule
from sansnet_trio.sandbox.profiles import Feature
from sansnet_trio.sandbox.seccomp import make_program
from sansnet_trio.sandbox.system_calls import NEWEST, NUMBERS
from tests.lab.kernel_headers import is_installed, system_calls
from tests.trio.sandbox import bpf, reading

pytestmark = pytest.mark.skipif(not is_installed(), reason="needs the kernel's headers (linux-libc-dev)")

PROFILES: Final = {
    "main": profiles.main(),
    "main with all features": profiles.main(set(Feature)),
    "socket agent": profiles.SOCKET_AGENT,
    "resident": profiles.RESIDENT,
    "broker": profiles.BROKER,
    "reaper": profiles.REAPER,
}
MACHINES: Final = sorted(reading.ARCHITECTURES)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", PROFILES)
def test_a_filter_does_what_its_profile_says(name: str, machine: str) -> None:
    compare(PROFILES[name], Mode.ENFORCE, machine)


@pytest.mark.parametrize("machine", MACHINES)
def test_a_filter_that_only_logs_refuses_nothing(machine: str) -> None:
    compare(PROFILES["main with all features"], Mode.LOG, machine)


@pytest.mark.parametrize("feature", Feature)
def test_a_feature_adds_calls_and_takes_none(feature: Feature) -> None:
    base, added = profiles.main(), profiles.main({feature})
    assert set(base.groups) < set(added.groups)
    assert base.refused == added.refused


def compare(profile: Profile, mode: Mode, machine: str) -> None:
    """Compare a filter with its profile."""
    made = bpf.Filter(make_program(profile, mode, machine, reading.OWN))
    for call in reading.calls(profile, machine, NEWEST):
        assert made.run(call) == reading.expected(profile, mode, machine, NEWEST, call), call


@pytest.mark.parametrize(("machine", "architecture"), [("x86_64", "c000003e"), ("aarch64", "c00000b7")])
def test_the_names_are_those_of_the_kernel(machine: str, architecture: str) -> None:
    theirs: dict[int, set[str]] = {}
    for name, number in system_calls(machine).items():
        theirs.setdefault(number, set()).add(name)
    assert not {
        number: (name_of(architecture, number), names)
        for number, names in theirs.items()
        if number <= NEWEST and name_of(architecture, number) not in names
    }


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_are_those_of_the_kernel(machine: str) -> None:
    column = 0 if machine == "x86_64" else 1
    ours = {name: numbers[column] for name, numbers in NUMBERS.items()}
    theirs = system_calls(machine)
    assert {name: number for name, number in ours.items() if number != theirs.get(name)} == {}
    assert max(theirs.values()) >= max(number for number in ours.values() if number is not None)


SOCKET: Final = 41
OPEN: Final = 257


def conditions(*arguments: Argument) -> bpf.Filter:
    """The filter of a profile that allows `socket` under conditions."""
    profile = Profile(name="test", groups=(Group("", (Rule("socket", arguments),)),), refused={"openat": 13})
    return bpf.Filter(make_program(profile, Mode.ENFORCE, "x86_64", reading.OWN))


def test_all_conditions_must_hold() -> None:
    made = conditions(Argument(0, (2, 10)), Argument(1, (1, 2), 0xF), Argument(2, (0, 6)))
    allowed = [(2, 1, 0), (10, 2 | 0x800, 6), (2 | 1 << 32, 1 | 1 << 40, 1 << 32)]
    assert [made.run(bpf.Call(SOCKET, each)) for each in allowed] == [bpf.ALLOW] * 3
    killed = [(16, 1, 0), (3, 1, 0), (2, 3, 0), (2, 1, 1), (2, 1, 7), (10, 0, 0), ()]
    assert [made.run(bpf.Call(SOCKET, each)) for each in killed] == [bpf.KILL_PROCESS] * len(killed)


def test_a_value_may_be_this_process() -> None:
    made = conditions(Argument(0, (OWN_PROCESS,)))
    assert made.run(bpf.Call(SOCKET, (reading.OWN[OWN_PROCESS],))) == bpf.ALLOW
    assert made.run(bpf.Call(SOCKET, (reading.OWN[OWN_PROCESS] + 1,))) == bpf.KILL_PROCESS
    assert made.run(bpf.Call(SOCKET, (OWN_PROCESS,))) == bpf.KILL_PROCESS


def test_calls_are_refused_or_unknown() -> None:
    made = conditions()
    assert made.run(bpf.Call(SOCKET)) == bpf.ALLOW
    assert made.run(bpf.Call(OPEN)) == bpf.ERRNO | 13
    assert made.run(bpf.Call(OPEN | bpf.X32)) == bpf.KILL_PROCESS
    assert made.run(bpf.Call(NEWEST + 1)) == bpf.ERRNO | 38
    assert made.run(bpf.Call(SOCKET, (), bpf.AUDIT_ARCH_I386)) == bpf.KILL_PROCESS
    assert made.run(bpf.Call(SOCKET, (), bpf.AUDIT_ARCH_AARCH64)) == bpf.KILL_PROCESS
