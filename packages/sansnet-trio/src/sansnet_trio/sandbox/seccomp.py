"""Filters of system calls (seccomp(2)): a program of classic BPF from a profile, and its installation.

The program compares the architecture, then the number with that of each rule. It has no other jumps than forward ones
over a few instructions. Rules with conditions come first. For the others, Linux 5.11 and newer keep a table of numbers
and do not run the program (SECCOMP_ARCH_NATIVE_NR).

A number above the newest one of the table is of a system call that was added to the kernel later. It fails with ENOSYS,
as on a kernel without it, because the C library tries new system calls and falls back to old ones.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Mapping
from struct import Struct
from typing import Final

from sansnet_trio.sandbox.mode import Mode
from sansnet_trio.sandbox.profile import OWN_GROUP, OWN_PROCESS, WORD, Argument, Profile, Rule
from sansnet_trio.sandbox.system_calls import ARCHITECTURES, NEWEST, NUMBERS

__all__ = ["install", "make_program"]

_INSTRUCTION: Final = Struct("=HBBI")  # struct sock_filter: code, jump if true, jump if false, k

# linux/bpf_common.h
_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_AND: Final = 0x54  # BPF_ALU | BPF_AND | BPF_K
_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_JUMP: Final = 0x05  # BPF_JMP | BPF_JA
_RETURN: Final = 0x06  # BPF_RET | BPF_K

# linux/seccomp.h
_NUMBER: Final = 0  # offsets in struct seccomp_data
_ARCHITECTURE: Final = 4
_ARGUMENTS: Final = 16
_ALLOW: Final = 0x7FFF0000
_LOG: Final = 0x7FFC0000
_ERRNO: Final = 0x00050000
_KILL_PROCESS: Final = 0x80000000
_X32_BIT: Final = 0x40000000
_SET_MODE_FILTER: Final = 1
_GET_ACTION_AVAIL: Final = 2
_FLAG_ALL_THREADS: Final = 1
_FLAG_LOG: Final = 2

_LITTLE_ENDIAN: Final = 8  # bytes of an argument, the low half first

_libc: Final = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def make_program(profile: Profile, mode: Mode, machine: str, own: Mapping[int, int]) -> bytes:
    """The program of a profile.

    Args:
        profile: the system calls that are allowed.
        mode: what happens with others; not `OFF`.
        machine: the processor, as from `platform.machine`.
        own: `OWN_PROCESS` and `OWN_GROUP` -> value.

    Returns:
        An array of struct sock_filter.

    Raises:
        KeyError: the processor is not known.
    """
    architecture, column = ARCHITECTURES[machine]
    enforced = mode is Mode.ENFORCE
    otherwise = _return(_KILL_PROCESS if enforced else _LOG)
    code = [
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_EQUAL, architecture, 1, 0),
        otherwise,
        _instruction(_LOAD, _NUMBER),
        _instruction(_AT_LEAST, _X32_BIT, 0, 1),
        otherwise,
        _instruction(_AT_LEAST, NEWEST + 1, 0, 1),
        _return(_ERRNO | errno.ENOSYS),
    ]
    rules: dict[int, list[Rule]] = {}
    for group in profile.groups:
        for rule in group.rules:
            if (number := NUMBERS[rule.call][column]) is not None:
                rules.setdefault(number, []).append(rule)
    refused: dict[int, bytes] = {}
    for name, code_of_error in profile.refused.items() if enforced else ():
        if (number := NUMBERS[name][column]) is not None:
            refused[number] = _return(_ERRNO | code_of_error)
    always = [number for number, found in rules.items() if not all(rule.arguments for rule in found)]
    for number, found in rules.items():
        if number not in always:
            checks = [part for rule in found for part in _checks(rule, own)]
            code += _if_number(number, [*checks, refused.get(number, otherwise)])
    for number in always:
        code += _if_number(number, [_return(_ALLOW)])
    for number, refusal in refused.items():
        if number not in rules:
            code += _if_number(number, [refusal])
    return b"".join([*code, otherwise])


def _if_number(number: int, block: list[bytes]) -> list[bytes]:
    """Run a block, which returns, for one system call."""
    return [_instruction(_EQUAL, number, 0, len(block)), *block]


def _checks(rule: Rule, own: Mapping[int, int]) -> list[bytes]:
    """Return if all conditions hold; else run what follows."""
    code = [_return(_ALLOW)]
    for argument in reversed(rule.arguments):
        code = [*_check(argument, own, len(code)), *code]
    return code


def _check(argument: Argument, own: Mapping[int, int], rest: int) -> list[bytes]:
    """Continue if a condition holds, else jump over the next `rest` instructions."""
    offset = _ARGUMENTS + argument.number * _LITTLE_ENDIAN
    code = [_instruction(_LOAD, offset)]
    if argument.mask != WORD:
        code.append(_instruction(_AND, argument.mask))
    values = [own.get(value, value) & WORD for value in argument.values]
    for position, value in enumerate(values):
        after = len(values) - position - 1
        code.append(_instruction(_EQUAL, value, after, 0 if after else rest))
    return code


def _instruction(code: int, k: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return _INSTRUCTION.pack(code, if_true, if_false, k)


def _return(action: int) -> bytes:
    return _instruction(_RETURN, action)


def install(profile: Profile, mode: Mode) -> None:
    """Filter the system calls of all threads of this process for good. They must have no_new_privs.

    Args:
        profile: the system calls that are allowed.
        mode: what happens with others; not `OFF`.

    Raises:
        OSError: the kernel cannot do that, or something forbids it; ENOSYS for another processor.
    """
    machine = os.uname().machine
    if machine not in ARCHITECTURES or sys.maxsize < 1 << 32:
        raise OSError(errno.ENOSYS, f"there is no filter for {machine} processors")
    call = NUMBERS["seccomp"][ARCHITECTURES[machine][1]]
    action = ctypes.c_uint32(_KILL_PROCESS if mode is Mode.ENFORCE else _LOG)
    _seccomp(call, _GET_ACTION_AVAIL, 0, action)
    code = make_program(profile, mode, machine, {OWN_PROCESS: os.getpid(), OWN_GROUP: -os.getpgrp()})
    flags = _FLAG_ALL_THREADS | (0 if mode is Mode.ENFORCE else _FLAG_LOG)
    _seccomp(call, _SET_MODE_FILTER, flags, _Program(len(code) // _INSTRUCTION.size, code))


def _seccomp(call: int | None, operation: int, flags: int, argument: ctypes.c_uint32 | _Program) -> None:
    words = (ctypes.c_long(each) for each in (call or 0, operation, flags))
    result: int = _libc.syscall(*words, ctypes.byref(argument))
    if result:  # -1, or the id of a thread that has another filter
        code = ctypes.get_errno() if result < 0 else errno.EBUSY
        raise OSError(code, os.strerror(code))
