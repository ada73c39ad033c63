"""The meaning of a profile, read from its description and not from the code that makes programs of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

from sansnet_trio.sandbox.mode import Mode
from sansnet_trio.sandbox.profile import OWN_GROUP, OWN_PROCESS, Argument, Profile, Rule
from tests.lab.kernel_headers import system_calls
from tests.trio.sandbox import bpf

__all__ = ["ARCHITECTURES", "OWN", "calls", "expected"]

ARCHITECTURES: Final = {"x86_64": bpf.AUDIT_ARCH_X86_64, "aarch64": bpf.AUDIT_ARCH_AARCH64}
OWN: Final = {OWN_PROCESS: 4711, OWN_GROUP: -4710}

_HIGH: Final = 1 << 32
_LOW: Final = _HIGH - 1
_ENOSYS: Final = 38


def expected(profile: Profile, mode: Mode, machine: str, newest: int, call: bpf.Call) -> int:
    """The value that the filter of a profile must return for a system call.

    Args:
        profile: the profile.
        mode: `ENFORCE` or `LOG`.
        machine: the processor.
        newest: the number of the newest system call that the profiles know.
        call: the system call.
    """
    otherwise = bpf.KILL_PROCESS if mode is Mode.ENFORCE else bpf.LOG
    if call.architecture != ARCHITECTURES[machine] or call.number >= bpf.X32:
        return otherwise
    if call.number > newest:
        return bpf.ERRNO | _ENOSYS
    name = _names(machine).get(call.number, "")
    if any(_holds(rule, call) for rule in _rules(profile, name)):
        return bpf.ALLOW
    if mode is Mode.ENFORCE and name in profile.refused:
        return bpf.ERRNO | profile.refused[name]
    return otherwise


def calls(profile: Profile, machine: str, newest: int) -> Iterator[bpf.Call]:
    """System calls of all numbers, with arguments around those that the profile names.

    Args:
        profile: the profile.
        machine: the processor.
        newest: the number of the newest system call that the profiles know.
    """
    architecture = ARCHITECTURES[machine]
    names = _names(machine)
    numbers = [*range(newest + 200), *(1 << bit for bit in range(10, 32)), *range(_HIGH - 40, _HIGH)]
    numbers += [bpf.X32 | number for number in range(newest + 200)]
    for number in numbers:
        for arguments in _arguments(list(_rules(profile, names.get(number, "")))):
            yield bpf.Call(number, arguments, architecture)
        for other in {*ARCHITECTURES.values(), bpf.AUDIT_ARCH_I386, 0} - {architecture}:
            yield bpf.Call(number, (), other)


def _names(machine: str) -> dict[int, str]:
    return {number: name for name, number in system_calls(machine).items()}


def _rules(profile: Profile, name: str) -> Iterator[Rule]:
    return (rule for group in profile.groups for rule in group.rules if rule.call == name)


def _holds(rule: Rule, call: bpf.Call) -> bool:
    return all(_satisfies(argument, call.arguments) for argument in rule.arguments)


def _satisfies(argument: Argument, arguments: tuple[int, ...]) -> bool:
    value = arguments[argument.number] if argument.number < len(arguments) else 0
    allowed = {OWN.get(each, each) & _LOW for each in argument.values}
    return value & argument.mask & _LOW in allowed


def _arguments(rules: list[Rule]) -> Iterator[tuple[int, ...]]:
    """Combinations of values of the arguments: those that rules allow, and their neighbours."""
    yield ()
    yield tuple(range(6))
    yield (_HIGH - 1,) * 6
    yield ((1 << 64) - 1,) * 6
    for rule in rules:
        wanted = [[0] for _ in range(6)]
        for argument in rule.arguments:
            wanted[argument.number] = [OWN.get(value, value) % (1 << 64) for value in argument.values]
        yield from itertools.product(*wanted)
        for argument in rule.arguments:  # one that may be wrong
            others = [each for other in rules for each in other.arguments if each.number == argument.number]
            tried = list(wanted)
            tried[argument.number] = sorted(_candidates([argument, *others]))
            yield from itertools.product(*tried)


def _candidates(arguments: list[Argument]) -> set[int]:
    values = {OWN.get(value, value) % (1 << 64) for argument in arguments for value in argument.values}
    near = values | {value + 1 for value in values} | {value - 1 for value in values} | {0, _LOW}
    near |= {value ^ 1 << bit for value in list(values)[:2] for bit in range(64)}
    return {value % (1 << 64) for value in near | {value | _HIGH for value in near}}
