"""System calls made in another process, as by an attacker who has taken it over (ptrace(2)). For x86-64.

The process is stopped, its registers are changed so that it makes one system call, and then it goes on as before. The
call passes the filter of the process like its own calls.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.lab.kernel_headers import system_calls

__all__ = ["Injection", "KilledError", "filters", "injected", "is_supported"]

# linux/ptrace.h
_GETREGS: Final = 12
_SETREGS: Final = 13
_SINGLESTEP: Final = 9
_DETACH: Final = 17
_SEIZE: Final = 0x4206
_INTERRUPT: Final = 0x4207
_GET_FILTER: Final = 0x420C
_WALL: Final = 0x40000000
_SYSCALL: Final = b"\x0f\x05"
_INSTRUCTION: Final = 8
"""Bytes of an instruction of classic BPF."""
_RED_ZONE: Final = 4096
"""Bytes below the stack that stay as they are."""

_REGISTERS: Final = """
    r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base ds es fs gs
"""
_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long


class _Registers(ctypes.Structure):
    """The registers of a thread (struct user_regs_struct)."""

    _fields_ = tuple((name, ctypes.c_ulonglong) for name in _REGISTERS.split())


class KilledError(Exception):
    """The kernel ended the process because of the call."""


def is_supported() -> bool:
    """Whether this machine's registers are known here."""
    return platform.machine() == "x86_64"


def _ptrace(request: int, pid: int, address: int = 0, data: object = 0) -> int:
    words = [ctypes.c_long(request), ctypes.c_long(pid), ctypes.c_void_p(address)]
    result: int = _libc.ptrace(*words, ctypes.c_void_p(data) if isinstance(data, int) else data)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


class Injection:
    """A process that is stopped. See `injected`.

    Attributes:
        pid: the process.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._registers = _Registers()
        _ptrace(_GETREGS, pid, 0, ctypes.byref(self._registers))
        self._instruction = self._find()

    def call(self, name: str, *arguments: int | bytes) -> int:
        """Make a system call there.

        Args:
            name: its name.
            arguments: numbers, and bytes for pointers to copies of them.

        Returns:
            Its result; below 0 it is an errno.

        Raises:
            KilledError: the kernel ended the process.
        """
        changed = _Registers.from_buffer_copy(self._registers)
        place = self._registers.rsp - _RED_ZONE
        words = []
        for argument in arguments:
            if isinstance(argument, bytes):
                place -= len(argument) + 15 & ~15
                self._write(place, argument)
                argument = place
            words.append(argument % (1 << 64))
        for register, word in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), words, strict=False):
            setattr(changed, register, word)
        changed.rax = system_calls("x86_64")[name]
        changed.orig_rax = (1 << 64) - 1  # nothing is restarted
        changed.rip = self._instruction
        _ptrace(_SETREGS, self.pid, 0, ctypes.byref(changed))
        _ptrace(_SINGLESTEP, self.pid)
        _wait(self.pid)
        _ptrace(_GETREGS, self.pid, 0, ctypes.byref(changed))
        value: int = ctypes.c_longlong(changed.rax).value
        return value

    def restore(self) -> None:
        """Let the process go on as if nothing had been."""
        _ptrace(_SETREGS, self.pid, 0, ctypes.byref(self._registers))
        _ptrace(_DETACH, self.pid)

    def _find(self) -> int:
        """The address of an instruction that makes a system call."""
        regions = re.findall(r"^(\w+)-(\w+) r-xp .*$", Path(f"/proc/{self.pid}/maps").read_text(), re.MULTILINE)
        with open(f"/proc/{self.pid}/mem", "rb", buffering=0) as memory:
            for start, end in regions:
                first = int(start, 16)
                if first >= 1 << 47:  # the page of vsyscalls
                    continue
                memory.seek(first)
                if (at := memory.read(int(end, 16) - first).find(_SYSCALL)) >= 0:
                    return first + at
        raise AssertionError("no instruction makes a system call")

    def _write(self, address: int, data: bytes) -> None:
        with open(f"/proc/{self.pid}/mem", "wb", buffering=0) as memory:
            memory.seek(address)
            memory.write(data)


@contextmanager
def injected(pid: int) -> Iterator[Injection]:
    """Stop a process for the block, unless it is ended there.

    Raises:
        KilledError: the kernel ended it.
    """
    _ptrace(_SEIZE, pid)
    _ptrace(_INTERRUPT, pid)
    _wait(pid)
    injection = Injection(pid)
    try:
        yield injection
    finally:
        with suppress(ProcessLookupError):  # it was ended
            injection.restore()


def _wait(pid: int) -> None:
    _, status = os.waitpid(pid, _WALL)
    if not os.WIFSTOPPED(status):
        assert os.WIFSIGNALED(status), status
        raise KilledError(signal.Signals(os.WTERMSIG(status)).name)


def filters(pid: int) -> list[bytes]:
    """The programs that filter the system calls of a process, as arrays of struct sock_filter."""
    found: list[bytes] = []
    with injected(pid):
        while True:
            try:
                count = _ptrace(_GET_FILTER, pid, len(found))
            except OSError as error:
                if error.errno in {errno.ENOENT, errno.EINVAL}:  # no more, or none at all
                    return found
                raise
            buffer = ctypes.create_string_buffer(count * _INSTRUCTION)
            _ptrace(_GET_FILTER, pid, len(found), buffer)
            found.append(buffer.raw)
