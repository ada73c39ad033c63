"""The cost of a piece of work, in numbers that repeat: calls, and instructions where the processor counts them.

Theory of operation: the interpreter reports each call of a function of Python or of C to a profile function. Compiled
modules report only the calls that go through the interpreter, so numbers of calls are compared for one variant and one
version of Python alone. Instructions outside of the kernel come from the processor, by perf_event_open(2); many virtual
machines have none. `counts.json` beside this file keeps the last values, so that a change shows.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import json
import os
import platform
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import sansnet_core.network

__all__ = ["KEPT", "calls", "compare", "instructions", "variant"]

KEPT: Final = Path(__file__).with_name("counts.json")

PERF_TYPE_HARDWARE: Final = 0
PERF_COUNT_HW_INSTRUCTIONS: Final = 1
ATTRIBUTES_SIZE: Final = 128
DISABLED, EXCLUDE_KERNEL, EXCLUDE_HYPERVISOR = 1 << 0, 1 << 5, 1 << 6
PERF_EVENT_IOC_ENABLE: Final = 0x2400
PERF_EVENT_IOC_DISABLE: Final = 0x2401
PERF_EVENT_OPEN: Final = {"x86_64": 298, "aarch64": 241}
"""The number of the system call (linux/perf_event.h, asm/unistd.h)."""

Work = Callable[[], int]
"""Does the work of a case once, and returns the number of its units."""


def compare(cases: Mapping[str, Callable[[], Work]], *, keep: bool) -> None:
    """Print the counts of each case, and how they differ from the kept ones.

    Args:
        cases: functions that make work.
        keep: whether the new ones are kept.
    """
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    before = kept.get(variant(), {})
    now: dict[str, dict[str, float]] = {}
    print(f"{variant()}\n{'case':20} {'calls':>9} {'change':>8} {'instructions':>13} {'change':>8}   of each unit")
    for name, prepare in cases.items():
        now[name] = {"calls": round(calls(prepare), 2)}
        if (number := instructions(prepare)) is not None:
            now[name]["instructions"] = round(number)
        texts = [_with_change(what, now[name], before.get(name, {})) for what in ("calls", "instructions")]
        print(f"{name:20} {texts[0]} {texts[1]:>22}", flush=True)
    if keep:
        KEPT.write_text(json.dumps(kept | {variant(): now}, indent=1, sort_keys=True) + "\n")


def _with_change(what: str, now: Mapping[str, float], before: Mapping[str, float]) -> str:
    if what not in now:
        return f"{'-':>9} {'':>8}"
    change = f"{now[what] / before[what] - 1:+.1%}" if before.get(what) else "new"
    return f"{now[what]:9.2f} {change:>8}" if what == "calls" else f"{now[what]:13.0f} {change:>8}"


def variant() -> str:
    """The conditions of the counts: the version of Python, and whether the core is compiled."""
    compiled = "compiled" if not sansnet_core.network.__file__.endswith(".py") else "pure"
    return f"{platform.python_implementation()} {sys.version_info[0]}.{sys.version_info[1]}, {compiled}"


def calls(prepare: Callable[[], Work]) -> float:
    """Calls of functions, in Python or in C, for each unit of the work that `prepare` makes."""
    work = _second(prepare)
    number = 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal number
        if event in ("call", "c_call"):
            number += 1

    with _without_collection():
        sys.setprofile(note)
        try:
            units = work()
        finally:
            sys.setprofile(None)
    return number / units


def instructions(prepare: Callable[[], Work]) -> float | None:
    """Instructions for each unit; None where they cannot be counted."""
    counter = _open_counter()
    if counter is None:
        return None
    try:
        work = _second(prepare)
        with _without_collection():
            fcntl.ioctl(counter, PERF_EVENT_IOC_ENABLE, 0)
            units = work()
            fcntl.ioctl(counter, PERF_EVENT_IOC_DISABLE, 0)
        number: int = struct.unpack("Q", os.read(counter, 8))[0]
        return number / units
    finally:
        os.close(counter)


def _second(prepare: Callable[[], Work]) -> Work:
    """Work to be done for the second time: the first fills caches."""
    prepare()()
    return prepare()


def _open_counter() -> int | None:
    number = PERF_EVENT_OPEN.get(platform.machine())
    if number is None:
        return None
    attributes = bytearray(ATTRIBUTES_SIZE)
    struct.pack_into("IIQ", attributes, 0, PERF_TYPE_HARDWARE, ATTRIBUTES_SIZE, PERF_COUNT_HW_INSTRUCTIONS)
    struct.pack_into("Q", attributes, 40, DISABLED | EXCLUDE_KERNEL | EXCLUDE_HYPERVISOR)
    library: Any = ctypes.CDLL(None, use_errno=True)
    descriptor: int = library.syscall(number, (ctypes.c_char * ATTRIBUTES_SIZE).from_buffer(attributes), 0, -1, -1, 0)
    return descriptor if descriptor >= 0 else None


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """The collector of garbage runs at moments that do not repeat."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
