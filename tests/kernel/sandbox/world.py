"""The means of an attack: files, sockets, another process, and machine code, all made before a process is confined."""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
from pathlib import Path
from struct import pack
from typing import Final, NoReturn

from tests.lab.kernel_headers import system_calls

__all__ = ["NAMESPACE_FILES", "NUMBERS", "X86_64", "Slot", "StoppedError", "World"]

X86_64: Final = os.uname().machine == "x86_64"
NUMBERS: Final = system_calls(os.uname().machine)
"""The number of each system call of this machine."""
NAMESPACE_FILES: Final = {"user": "user", "network": "net", "mount": "mnt", "PID": "pid", "IPC": "ipc", "UTS": "uts"}
"""The name in /proc/self/ns of each kind of namespace."""

_MAX_ERRNO: Final = 4095

_FORKING: Final = bytes.fromhex(
    "48 89 f8 48 89 f7 48 89 d6 48 89 ca 4d 89 c2 4d 89 c8 4c 8b 4c 24 08 0f 05"  # the system call
    "48 85 c0 75 09 31 ff b8 3c 00 00 00 0f 05 c3"  # exit(0), unless it returned another number than 0
)
"""A function of a number and six arguments, for x86-64. A thread or process that the call starts exits at once."""
_OLD: Final = bytes.fromhex("89 f8 cd 80 c3")
"""A function of the number of a system call of 32-bit programs."""
_OLD_AT: Final = 256


class Slot(ctypes.Structure):
    """The progress of an attack, in memory that the process shares with the one that watches it.

    Attributes:
        begun: whether the process was confined and began.
        calls: how many system calls it has made.
        returned: how many of them returned.
        value: the result of the last one; below 0 it is an errno.
        failed: whether the attack itself is wrong.
    """

    _fields_ = tuple((name, ctypes.c_int64) for name in ("begun", "calls", "returned", "value", "failed"))
    begun: int
    calls: int
    returned: int
    value: int
    failed: int


class StoppedError(Exception):
    """A system call failed, so the attack is over."""


class World:
    """The means of all attacks in one process.

    Args:
        directory: a directory of the test's, in which everybody may write.
        victim: a process that does nothing.

    Attributes:
        slot: the progress of the attack that this process makes.
        directory: the directory.
        old, new: the paths of a file and of nothing in there.
        folder, file: the directory and the file, open.
        program: a program in memory, open.
        terminal, tty: the two ends of a terminal of our own.
        victim, pidfd: a process that does nothing, as a number and as a descriptor.
        namespaces: the descriptors of our own namespaces by their kinds.
        inet: a new TCP socket.
        stream, datagram, abstract: the addresses of sockets of local services.
        tun: the guest's interface; -1 if this process does not have it.
        address: of 64 KiB of memory.
    """

    def __init__(self, directory: Path, victim: int) -> None:
        self.slot = Slot()
        self.directory = os.fsencode(directory) + b"\0"
        self.old, self.new = (os.fsencode(directory / name) + b"\0" for name in ("old", "new"))
        self.folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        self.file = os.open(directory / "old", os.O_RDWR | os.O_CREAT, 0o666)
        self.program = os.memfd_create("program")
        os.write(self.program, Path("/bin/true").read_bytes())
        self.terminal, self.tty = os.openpty()
        self.victim, self.pidfd = victim, os.pidfd_open(victim)
        self.namespaces = {
            name: os.open(f"/proc/self/ns/{file}", os.O_RDONLY) for name, file in NAMESPACE_FILES.items()
        }
        self.inet = socket.socket(socket.AF_INET, socket.SOCK_STREAM).detach()
        self._services: list[socket.socket] = []
        self.stream = self._service(socket.SOCK_STREAM, str(directory / "stream"))
        self.datagram = self._service(socket.SOCK_DGRAM, str(directory / "datagram"))
        self.abstract = self._service(socket.SOCK_STREAM, f"\0sansnet-attack-{os.getpid()}")
        self.tun = _descriptor("/dev/net/tun")
        self._memory = mmap.mmap(-1, 1 << 16)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.syscall.restype = ctypes.c_long
        self._forking, self._old = _missing, _missing
        if X86_64:
            self._code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
            self._code.write(_FORKING.ljust(_OLD_AT, b"\0") + _OLD)
            start = ctypes.addressof(ctypes.c_char.from_buffer(self._code))
            self._forking = ctypes.CFUNCTYPE(ctypes.c_long, *[ctypes.c_long] * 7)(start)
            self._old = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(start + _OLD_AT)

    def call(self, name: str, *arguments: int | bytes | None) -> int:
        """Make a system call.

        Args:
            name: its name.
            arguments: numbers, and bytes for pointers to them.

        Raises:
            StoppedError: it failed.
        """
        return self.call_numbered(NUMBERS[name], *arguments)

    def call_numbered(self, number: int, *arguments: int | bytes | None) -> int:
        """Make the system call of a number; see `call`."""
        words = [each if isinstance(each, bytes) else ctypes.c_long(each or 0) for each in arguments]
        self.slot.calls += 1
        value = self._libc.syscall(ctypes.c_long(number), *words)
        return self._returned(-ctypes.get_errno() if value == -1 else value)

    def call_forking(self, name: str, *arguments: int) -> int:
        """Make a system call that may start a thread or a process, which exits at once; see `call`."""
        words = [NUMBERS[name], *arguments, *[0] * (6 - len(arguments))]
        self.slot.calls += 1
        return self._returned(self._forking(*words))

    def call_old(self, number: int) -> int:
        """Make a system call as a 32-bit program does; see `call`."""
        self.slot.calls += 1
        return self._returned(self._old(number))

    def put(self, data: bytes) -> int:
        """The address of a copy of some bytes."""
        self._memory[: len(data)] = data
        return self.address

    def _returned(self, value: int) -> int:
        self.slot.value = value
        self.slot.returned += 1
        if -_MAX_ERRNO <= value < 0:
            raise StoppedError
        return value

    def _service(self, kind: int, name: str) -> bytes:
        made = socket.socket(socket.AF_UNIX, kind)
        self._services.append(made)
        made.bind(name)
        if kind == socket.SOCK_STREAM:
            made.listen()
        return pack("=H", socket.AF_UNIX) + os.fsencode(name) + (b"" if name.startswith("\0") else b"\0")


def _missing(*_: int) -> NoReturn:
    raise NotImplementedError("there is machine code for x86-64 only")


def _descriptor(name: str) -> int:
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            if os.readlink(f"/proc/self/fd/{number}") == name:
                return number
        except FileNotFoundError:  # that of the directory
            pass
    return -1
