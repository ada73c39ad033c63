"""Classic BPF as the kernel runs it for seccomp, written from the kernel's documentation and not from ours.

`Filter` checks a program as the kernel does when it is installed (seccomp_check_filter), and runs it over the data of a
system call (struct seccomp_data). Source: Documentation/networking/filter.rst, userspace-api/seccomp_filter.rst.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final, NamedTuple

__all__ = [
    "ALLOW",
    "AUDIT_ARCH_AARCH64",
    "AUDIT_ARCH_I386",
    "AUDIT_ARCH_X86_64",
    "ERRNO",
    "KILL_PROCESS",
    "KILL_THREAD",
    "LOG",
    "X32",
    "Call",
    "Filter",
    "Instruction",
    "InvalidFilter",
]

# linux/audit.h: the machine of ELF, 64 bits, little-endian
AUDIT_ARCH_X86_64: Final = 62 | 0xC000_0000
AUDIT_ARCH_AARCH64: Final = 183 | 0xC000_0000
AUDIT_ARCH_I386: Final = 3 | 0x4000_0000
X32: Final = 0x4000_0000
"""The bit that marks system calls of the x32 ABI (asm/unistd.h)."""

# linux/seccomp.h
KILL_PROCESS: Final = 0x8000_0000
KILL_THREAD: Final = 0
ERRNO: Final = 0x0005_0000
LOG: Final = 0x7FFC_0000
ALLOW: Final = 0x7FFF_0000
_ACTIONS: Final = {KILL_PROCESS, KILL_THREAD, ERRNO, LOG, ALLOW, 0x0003_0000, 0x7FC0_0000, 0x7FF0_0000}

_MAX_INSTRUCTIONS: Final = 4096
_WORD: Final = 0xFFFF_FFFF
_CELLS: Final = 16
_DATA: Final = Struct("<iIQ6Q")
_CODE: Final = Struct("<HBBI")

_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_CONSTANTS: Final = {0x00, 0x01}  # BPF_LD, BPF_LDX: BPF_IMM
_LENGTHS: Final = {0x80, 0x81}  # BPF_LEN
_FROM_CELL: Final = {0x60, 0x61}
_TO_CELL: Final = {0x02, 0x03}
_MOVES: Final = {0x07, 0x87}  # BPF_TAX, BPF_TXA
_JUMP: Final = 0x05
_CONDITIONS: Final = {0x10: "==", 0x20: ">", 0x30: ">=", 0x40: "&"}
_ARITHMETIC: Final = {0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80, 0xA0}


class InvalidFilter(ValueError):
    """The kernel would refuse this program."""


class Instruction(NamedTuple):
    """One instruction (struct sock_filter)."""

    code: int
    jt: int
    jf: int
    k: int


class Call(NamedTuple):
    """A system call as a filter sees it (struct seccomp_data)."""

    number: int
    arguments: tuple[int, ...] = ()
    architecture: int = AUDIT_ARCH_X86_64
    instruction_pointer: int = 0

    def data(self) -> bytes:
        """The bytes that a filter reads."""
        number = self.number - (1 << 32) if self.number >= 1 << 31 else self.number
        padded = (*self.arguments, *[0] * (6 - len(self.arguments)))
        return _DATA.pack(number, self.architecture, self.instruction_pointer, *(each % (1 << 64) for each in padded))


class Filter:
    """A program for seccomp.

    Args:
        code: the instructions, as an array of struct sock_filter or in a sequence.

    Raises:
        InvalidFilter: the kernel would refuse it.
    """

    def __init__(self, code: bytes | Sequence[Instruction]) -> None:
        if isinstance(code, bytes):
            if len(code) % _CODE.size:
                raise InvalidFilter("the end of the program is cut")
            code = [Instruction(*each) for each in _CODE.iter_unpack(code)]
        self.instructions = [Instruction(*each) for each in code]
        _check(self.instructions)

    def run(self, call: Call) -> int:
        """The value that the program returns for a system call: an action and its data."""
        data, cells = call.data(), [0] * _CELLS
        a = x = 0
        at = 0
        while True:
            code, jt, jf, k = self.instructions[at]
            at += 1
            kind = code & 0x07
            operand = x if code & 0x08 else k
            if code == _LOAD:
                a = int.from_bytes(data[k : k + 4], "little")
            elif code in _CONSTANTS | _LENGTHS | _FROM_CELL:
                value = cells[k] if code in _FROM_CELL else _DATA.size if code in _LENGTHS else k
                a, x = (value, x) if kind == 0 else (a, value)
            elif code in _TO_CELL:
                cells[k] = a if kind == 2 else x
            elif code in _MOVES:
                a, x = (a, a) if code == 0x07 else (x, x)
            elif kind == 0x04:
                a = _calculate(code & 0xF0, a, operand)
            elif kind == 0x06:
                return a if code & 0x18 == 0x10 else k
            elif code == _JUMP:
                at += k
            else:
                at += jt if _holds(code & 0xF0, a, operand) else jf

    def constants(self) -> set[int]:
        """The numbers that the program compares anything with."""
        return {each.k for each in self.instructions if each.code & 0x07 == 0x05 and each.code != _JUMP}


def _holds(condition: int, a: int, operand: int) -> bool:
    match _CONDITIONS[condition]:
        case "==":
            return a == operand
        case ">":
            return a > operand
        case ">=":
            return a >= operand
        case _:
            return bool(a & operand)


def _calculate(operation: int, a: int, operand: int) -> int:
    match operation:
        case 0x00:
            a += operand
        case 0x10:
            a -= operand
        case 0x20:
            a *= operand
        case 0x30:
            a = a // operand if operand else 0
        case 0x40:
            a |= operand
        case 0x50:
            a &= operand
        case 0x60:
            a = a << operand if operand < 32 else 0
        case 0x70:
            a = a >> operand if operand < 32 else 0
        case 0x80:
            a = -a
        case _:
            a ^= operand
    return a & _WORD


def _check(instructions: Sequence[Instruction]) -> None:
    size = len(instructions)
    if not 0 < size <= _MAX_INSTRUCTIONS:
        raise InvalidFilter(f"{size} instructions")
    for at, (code, jt, jf, k) in enumerate(instructions):
        kind, rest = code & 0x07, size - at - 1
        jumps: tuple[int, ...] = ()
        if code == _LOAD:
            valid = k % 4 == 0 and k < _DATA.size
        elif code in _FROM_CELL | _TO_CELL:
            valid = k < _CELLS
        elif code in _CONSTANTS | _LENGTHS | _MOVES:
            valid = True
        elif kind == 0x04:
            valid = (
                code & 0xF0 in _ARITHMETIC and not (code in {0x34} and k == 0) and not (code in {0x64, 0x74} and k > 31)
            )
        elif kind == 0x06:
            valid = code in {0x06, 0x16} and (code == 0x16 or k & 0xFFFF_0000 in _ACTIONS)
        elif code == _JUMP:
            valid, jumps = True, (k,)
        else:
            valid, jumps = kind == 0x05 and code & 0xF0 in _CONDITIONS, (jt, jf)
        if not valid or any(jump >= rest for jump in jumps):
            raise InvalidFilter(f"instruction {at}: {code:#x} {jt} {jf} {k:#x}")
    if instructions[-1].code not in {0x06, 0x16}:
        raise InvalidFilter("the last instruction does not return")
