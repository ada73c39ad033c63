"""The interpreter of classic BPF, with programs written by hand."""

from __future__ import annotations

from typing import Final

import pytest

from tests.trio.sandbox.bpf import ALLOW, AUDIT_ARCH_X86_64, KILL_PROCESS, Call, Filter, Instruction, InvalidFilter

NUMBER: Final = Instruction(0x20, 0, 0, 0)
ARCHITECTURE: Final = Instruction(0x20, 0, 0, 4)
RETURN_A: Final = Instruction(0x16, 0, 0, 0)
KILL: Final = Instruction(0x06, 0, 0, KILL_PROCESS)
PERMIT: Final = Instruction(0x06, 0, 0, ALLOW)


def argument(number: int, *, high: bool = False) -> Instruction:
    return Instruction(0x20, 0, 0, 16 + 8 * number + 4 * high)


def test_the_data_of_a_call() -> None:
    call = Call(-1, (1, 2 << 32, 0, 0, 0, (1 << 64) - 1))
    parts = {0: 0xFFFFFFFF, 4: AUDIT_ARCH_X86_64, 8: 0, 16: 1, 20: 0, 24: 0, 28: 2, 56: 0xFFFFFFFF, 60: 0xFFFFFFFF}
    for offset, value in parts.items():
        assert Filter([Instruction(0x20, 0, 0, offset), RETURN_A]).run(call) == value


@pytest.mark.parametrize(
    ("code", "k", "matching", "other"), [(0x15, 7, 7, 8), (0x25, 7, 8, 7), (0x35, 7, 7, 6), (0x45, 6, 4, 9)]
)
def test_conditions(code: int, k: int, matching: int, other: int) -> None:
    made = Filter([argument(0), Instruction(code, 0, 1, k), PERMIT, KILL])
    assert made.run(Call(0, (matching,))) == ALLOW
    assert made.run(Call(0, (other,))) == KILL_PROCESS


@pytest.mark.parametrize(
    ("code", "k", "result"),
    [
        *((0x04, 3, 13), (0x14, 11, 0xFFFFFFFF), (0x24, 1 << 31, 0), (0x34, 3, 3), (0x44, 5, 15), (0x54, 6, 2)),
        *((0x64, 30, 1 << 31), (0x74, 1, 5), (0x84, 0, 0xFFFFFFF6), (0xA4, 3, 9)),
    ],
)
def test_arithmetic(code: int, k: int, result: int) -> None:
    assert Filter([argument(0), Instruction(code, 0, 0, k), RETURN_A]).run(Call(0, (10,))) == result


def test_registers_and_cells() -> None:
    store, load_x, add_x, jump = (
        Instruction(code, 0, 0, k) for code, k in ((0x02, 3), (0x61, 3), (0x0C, 0), (0x05, 1))
    )
    made = Filter([argument(0), store, argument(1), load_x, add_x, jump, KILL, RETURN_A])
    assert made.run(Call(0, (40, 2))) == 42


@pytest.mark.parametrize(
    "program",
    [
        [],
        [NUMBER],
        [Instruction(0x15, 0, 1, 0), PERMIT],
        [Instruction(0x05, 0, 0, 1), PERMIT],
        [Instruction(0x20, 0, 0, 64), PERMIT],
        [Instruction(0x20, 0, 0, 2), PERMIT],
        [Instruction(0x34, 0, 0, 0), PERMIT],
        [Instruction(0x28, 0, 0, 0), PERMIT],
        [Instruction(0x60, 0, 0, 16), PERMIT],
        [Instruction(0x06, 0, 0, 0x1234_0000)],
        [PERMIT] * 4097,
        b"\0" * 7,
    ],
)
def test_programs_that_the_kernel_refuses(program: list[Instruction] | bytes) -> None:
    with pytest.raises(InvalidFilter):
        Filter(program)
