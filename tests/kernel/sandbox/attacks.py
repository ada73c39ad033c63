"""The attacks that a process under foreign control can try, each harmless if it succeeds.

An attack ends with the first system call that the kernel does not carry out. Most consist of one call.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import signal
import socket
import termios
from collections.abc import Callable, Iterator
from functools import partial
from operator import attrgetter
from struct import pack
from typing import Final, NamedTuple, TypeAlias

from tests.kernel.sandbox.world import NAMESPACE_FILES, NUMBERS, X86_64, World

__all__ = ["ATTACKS", "READING", "STAT_OF_A_PATH", "WRITING", "Attack", "named"]

Means: TypeAlias = Callable[[World], int | bytes]
"""An argument of a system call that depends on the means that are there."""
Argument: TypeAlias = int | bytes | Means | None


class Attack(NamedTuple):
    """An attack.

    Attributes:
        aim: the row of the table in docs/security.md.
        name: the system call, or the attack in words.
        run: tries it.
    """

    aim: str
    name: str
    run: Callable[[World], object]


PROGRAMS: Final = "execute a program"
PROCESSES: Final = "start a process or a thread"
NAMESPACES: Final = "make or enter a namespace"
READING: Final = "open a file, or look for one"
WRITING: Final = "make, change or remove a file"
MOUNTS: Final = "change mounts or the root directory"
SOCKETS: Final = "make a socket for anything but TCP, UDP and ping"
SERVICES: Final = "use a local service (Docker, D-Bus, systemd)"
SIGNALS: Final = "send a signal to another process"
TRACING: Final = "read, trace or change another process"
CODE: Final = "make memory executable"
KERNEL: Final = "use a part of the kernel that has many faults"
DEVICES: Final = "control a terminal or a device"
RIGHTS: Final = "change its own rights or limits"
MACHINE: Final = "change the machine"
CONVENTIONS: Final = "make system calls by another convention"

DIRECTORY: Final[Means] = attrgetter("directory")
OLD: Final[Means] = attrgetter("old")
NEW: Final[Means] = attrgetter("new")
FOLDER: Final[Means] = attrgetter("folder")
FILE: Final[Means] = attrgetter("file")
PROGRAM: Final[Means] = attrgetter("program")
TERMINAL: Final[Means] = attrgetter("terminal")
TTY: Final[Means] = attrgetter("tty")
TUN: Final[Means] = attrgetter("tun")
INET: Final[Means] = attrgetter("inet")
VICTIM: Final[Means] = attrgetter("victim")
PIDFD: Final[Means] = attrgetter("pidfd")
ADDRESS: Final[Means] = attrgetter("address")
HERE: Final = -100
"""AT_FDCWD."""
HIGH: Final = 1 << 32
"""A bit that filters of 32-bit words may overlook."""
ABSENT: Final = 1 << 30
"""The number of a process that cannot exist."""
STAT_OF_A_PATH: Final = "newfstatat of a path with AT_EMPTY_PATH"
_FORK: Final = int(signal.SIGCHLD)
_THREAD: Final = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000
"""CLONE_VM, _FS, _FILES, _SIGHAND, _THREAD and _SYSVSEM."""
_NAMESPACES: Final = {
    "user": 0x10000000,
    "network": 0x40000000,
    "mount": 0x00020000,
    "PID": 0x20000000,
    "IPC": 0x08000000,
    "UTS": 0x04000000,
    "cgroup": 0x02000000,
    "time": 0x00000080,
}


def _call(aim: str, name: str, *arguments: Argument, label: str = "") -> Iterator[Attack]:
    """An attack of one system call; none if this machine has no such call."""

    def run(world: World) -> None:
        world.call(name, *(each(world) if callable(each) else each for each in arguments))

    if name in NUMBERS:
        yield Attack(aim, label or name, run)


def _programs() -> Iterator[Attack]:
    call = partial(_call, PROGRAMS)
    nothing, empty_path = bytes(8), 0x1000
    yield from call("execve", b"/bin/true\0", nothing, nothing)
    yield from call("execveat", HERE, b"/bin/true\0", nothing, nothing, 0)
    yield from call("execveat", PROGRAM, b"\0", nothing, nothing, empty_path, label="execveat of memory that was open")

    def memory(world: World) -> None:
        fd = world.call("memfd_create", b"program\0", 0)
        world.call("execveat", fd, b"\0", nothing, nothing, empty_path)

    yield Attack(PROGRAMS, "memfd_create and execveat", memory)
    yield from call("uselib", b"/nonexistent\0")


def _processes() -> Iterator[Attack]:
    if not X86_64:
        return

    def clone3(flags: int, number: int, stack: int) -> Callable[[World], object]:
        def run(world: World) -> object:
            address = world.address + stack if stack else 0
            return world.call_forking("clone3", world.put(pack("=8Q", flags, 0, 0, 0, number, address, stack, 0)), 64)

        return run

    for name in ("fork", "vfork"):
        yield Attack(PROCESSES, name, partial(_call_forking, name, 0))
    yield Attack(PROCESSES, "clone", partial(_call_forking, "clone", _FORK))
    yield Attack(PROCESSES, "clone3", clone3(0, _FORK, 0))
    yield Attack(
        PROCESSES, "clone of a thread", lambda world: world.call_forking("clone", _THREAD, world.address + (1 << 15))
    )
    yield Attack(PROCESSES, "clone3 of a thread", clone3(_THREAD, 0, 1 << 14))


def _call_forking(name: str, flags: int, world: World) -> object:
    return world.call_forking(name, flags)


def _namespaces() -> Iterator[Attack]:
    call = partial(_call, NAMESPACES)
    for name, flag in _NAMESPACES.items():
        yield from call("unshare", flag, label=f"unshare of a {name} namespace")
        if X86_64 and name != "time":  # whose flag is a part of the signal's number there
            yield Attack(NAMESPACES, f"clone with a {name} namespace", partial(_call_forking, "clone", flag | _FORK))
    for name in NAMESPACE_FILES:
        yield from call("setns", partial(_namespace, name), 0, label=f"setns of a {name} namespace")
    yield from call("setns", PIDFD, _NAMESPACES["network"], label="setns of a process")
    yield from call("unshare", 0x400, label="unshare of the descriptors")


def _namespace(name: str, world: World) -> int:
    return world.namespaces[name]


def _reading() -> Iterator[Attack]:
    call = partial(_call, READING)
    for path in ("/etc/passwd", "/proc/self/mem", "/proc/self/environ", "/proc/1/mem", "/dev/null", "/dev/net/tun"):
        yield from call("openat", HERE, path.encode() + b"\0", os.O_RDONLY, label=f"openat of {path}")
    yield from call("openat", HERE, b"/\0", os.O_RDONLY | os.O_DIRECTORY, label="openat of a directory")
    yield from call("openat", HERE, b"/etc/passwd\0", os.O_PATH, label="openat with O_PATH")
    yield from call("openat", FOLDER, b"old\0", os.O_RDONLY, label="openat in a directory that was open")
    yield from call("openat", HERE, partial(_of_victim, "mem"), os.O_RDWR, label="openat of another's memory")
    yield from call("openat", HERE, _own_file, os.O_RDWR, label="openat of a descriptor of its own")
    yield from call("openat2", HERE, b"/etc/passwd\0", bytes(24), 24)
    yield from call("open_by_handle_at", HERE, pack("=Ii", 8, 1) + bytes(8), 0)
    yield from call("name_to_handle_at", HERE, b"/etc/passwd\0", pack("=Ii", 128, 0) + bytes(128), bytes(8), 0)
    yield from call("newfstatat", HERE, b"/etc/passwd\0", bytes(256), 0)
    yield from call("newfstatat", HERE, b"/etc/passwd\0", bytes(256), 0x1000, label=STAT_OF_A_PATH)
    yield from call("statx", HERE, b"/etc/passwd\0", 0, 0x7FF, bytes(256))
    yield from call("faccessat", HERE, b"/etc/passwd\0", os.F_OK)
    yield from call("faccessat2", HERE, b"/etc/passwd\0", os.F_OK, 0)
    yield from call("readlinkat", HERE, b"/proc/self/exe\0", bytes(256), 256)
    yield from call("open", b"/etc/passwd\0", os.O_RDONLY)
    yield from call("stat", b"/etc/passwd\0", bytes(256))
    yield from call("lstat", b"/etc/passwd\0", bytes(256))
    yield from call("access", b"/etc/passwd\0", os.F_OK)
    yield from call("readlink", b"/proc/self/exe\0", bytes(256), 256)
    yield from call("statfs", b"/\0", bytes(256))
    yield from call("getxattr", b"/etc/passwd\0", b"user.x\0", None, 0)
    yield from call("listxattr", b"/etc/passwd\0", None, 0)
    yield from call("getdents64", FOLDER, bytes(4096), 4096)
    yield from call("fchdir", FOLDER)
    yield from call("chdir", b"/\0")
    yield from call("getcwd", bytes(256), 256)
    yield from call("inotify_init1", 0)
    yield from call("fanotify_init", 0x200, 0)


def _of_victim(name: str, world: World) -> bytes:
    return f"/proc/{world.victim}/{name}\0".encode()


def _own_file(world: World) -> bytes:
    return f"/proc/self/fd/{world.file}\0".encode()


def _writing() -> Iterator[Attack]:
    call = partial(_call, WRITING)
    create = os.O_CREAT | os.O_WRONLY
    yield from call("openat", HERE, NEW, create, 0o600, label="openat of a new file")
    yield from call("openat", FOLDER, b"new\0", create, 0o600, label="openat of a new file in an open directory")
    yield from call("openat", HERE, OLD, os.O_WRONLY, label="openat for writing")
    yield from call("openat", HERE, OLD, os.O_WRONLY | os.O_TRUNC, label="openat that truncates")
    yield from call("openat", HERE, DIRECTORY, os.O_TMPFILE | os.O_RDWR, 0o600, label="openat with O_TMPFILE")
    yield from call("unlinkat", HERE, OLD, 0)
    yield from call("renameat", HERE, OLD, HERE, NEW)
    yield from call("renameat2", HERE, OLD, HERE, NEW, 0)
    yield from call("linkat", HERE, OLD, HERE, NEW, 0)
    yield from call("symlinkat", OLD, HERE, NEW)
    yield from call("mkdirat", HERE, NEW, 0o700)
    yield from call("mknodat", HERE, NEW, 0o010600, 0)
    yield from call("fchmodat", HERE, OLD, 0o666)
    yield from call("fchmodat2", HERE, OLD, 0o666, 0)
    yield from call("fchmod", FILE, 0o666)
    yield from call("fchownat", HERE, OLD, -1, -1, 0)
    yield from call("fchown", FILE, -1, -1)
    yield from call("truncate", OLD, 0)
    yield from call("utimensat", HERE, OLD, None, 0)
    yield from call("setxattr", OLD, b"user.x\0", b"x", 1, 0)
    yield from call("fsetxattr", FILE, b"user.x\0", b"x", 1, 0)
    yield from call("removexattr", OLD, b"user.x\0")
    yield from call("creat", NEW, 0o600)
    yield from call("unlink", OLD)
    yield from call("rename", OLD, NEW)
    yield from call("link", OLD, NEW)
    yield from call("symlink", OLD, NEW)
    yield from call("mkdir", NEW, 0o700)
    yield from call("rmdir", NEW)
    yield from call("mknod", NEW, 0o010600, 0)
    yield from call("chmod", OLD, 0o666)
    yield from call("chown", OLD, -1, -1)
    yield from call("utimes", OLD, None)

    def bind(world: World) -> None:
        fd = world.call("socket", socket.AF_UNIX, socket.SOCK_DGRAM, 0)
        address = pack("=H", socket.AF_UNIX) + world.new
        world.call("bind", fd, address, len(address))

    yield Attack(WRITING, "bind of a socket to a new name", bind)


def _mounts() -> Iterator[Attack]:
    call = partial(_call, MOUNTS)
    yield from call("mount", b"none\0", DIRECTORY, b"nonexistent\0", 0, None)
    yield from call("umount2", DIRECTORY, 0)
    yield from call("pivot_root", DIRECTORY, DIRECTORY)
    yield from call("chroot", OLD)
    yield from call("open_tree", HERE, DIRECTORY, 0)
    yield from call("move_mount", HERE, b"/nonexistent\0", HERE, b"/nonexistent\0", 0)
    yield from call("fsopen", b"nonexistent\0", 0)
    yield from call("fspick", HERE, OLD, 0)
    yield from call("fsmount", -1, 0, 0)
    yield from call("fsconfig", -1, 0, None, None, 0)
    yield from call("mount_setattr", HERE, b"/nonexistent\0", 0, bytes(32), 32)
    yield from call("statmount", bytes(24), bytes(256), 256, 0)
    yield from call("listmount", bytes(24), bytes(256), 8, 0)


def _sockets() -> Iterator[Attack]:
    call = partial(_call, SOCKETS, "socket")
    stream, datagram, raw, packets = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET
    ipv4, ipv6 = socket.AF_INET, socket.AF_INET6
    sockets = {
        "AF_NETLINK": (16, raw, 0),
        "AF_NETLINK of netfilter": (16, raw, 12),
        "AF_NETLINK of connectors": (16, datagram, 11),
        "AF_PACKET, raw": (17, raw, 0x0300),
        "AF_PACKET": (17, datagram, 0x0300),
        "SOCK_PACKET": (ipv4, 10, 0x0300),
        "AF_INET, raw": (ipv4, raw, 1),
        "AF_INET, raw packets": (ipv4, raw, 255),
        "AF_INET6, raw": (ipv6, raw, 58),
        "AF_VSOCK": (40, stream, 0),
        "AF_ALG": (38, packets, 0),
        "AF_KEY": (15, raw, 2),
        "AF_XDP": (44, raw, 0),
        "AF_CAN": (29, raw, 1),
        "AF_TIPC": (30, raw, 0),
        "AF_BLUETOOTH": (31, raw, 1),
        "AF_RDS": (21, packets, 0),
        "AF_SMC": (43, stream, 0),
        "AF_PPPOX": (24, datagram, 0),
        "AF_QIPCRTR": (42, datagram, 0),
        "SCTP": (ipv4, stream, 132),
        "SCTP, packets": (ipv4, packets, 132),
        "MPTCP": (ipv4, stream, 262),
        "MPTCP over IPv6": (ipv6, stream, 262),
        "DCCP": (ipv4, 6, 33),
        "UDP-Lite": (ipv4, datagram, 136),
    }
    for name, (family, kind, protocol) in sockets.items():
        yield from call(family, kind, protocol, label=name)
        flags = socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        yield from call(family, kind | flags, protocol, label=f"{name}, non-blocking")
        yield from call(family | HIGH, kind | HIGH, protocol | HIGH, label=f"{name}, with bits in the upper halves")


def _services() -> Iterator[Attack]:
    call = partial(_call, SERVICES)

    def connect(service: str, kind: int, world: World) -> None:
        fd = world.call("socket", socket.AF_UNIX, kind, 0)
        address: bytes = getattr(world, service)
        world.call("connect", fd, address, len(address))

    def send(world: World) -> None:
        fd = world.call("socket", socket.AF_UNIX, socket.SOCK_DGRAM, 0)
        world.call("sendto", fd, b"x", 1, 0, world.datagram, len(world.datagram))

    def attack(name: str, run: Callable[[World], object]) -> Attack:
        return Attack(SERVICES, name, run)

    yield attack("connect to a path", partial(connect, "stream", socket.SOCK_STREAM))
    yield attack("connect to an abstract address", partial(connect, "abstract", socket.SOCK_STREAM))
    yield attack("connect to a datagram service", partial(connect, "datagram", socket.SOCK_DGRAM))
    yield attack("sendto a datagram service", send)
    yield from call("socket", socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, label="a socket for packets")
    yield from call("socketpair", socket.AF_UNIX, socket.SOCK_STREAM, 0, bytes(8))
    yield from call("mq_open", b"nonexistent\0", os.O_RDWR, 0, None)
    yield from call("msgget", 0x53414E53, 0)
    yield from call("semget", 0x53414E53, 0, 0)
    yield from call("shmget", 0x53414E53, 0, 0)


def _signals() -> Iterator[Attack]:
    call = partial(_call, SIGNALS)
    yield from call("kill", VICTIM, 0)
    yield from call("kill", 0, 0, label="kill of its group")
    yield from call("kill", lambda world: os.getppid(), 0, label="kill of its parent")
    yield from call("tkill", VICTIM, 0)
    yield from call("tgkill", VICTIM, VICTIM, 0)
    yield from call("rt_sigqueueinfo", VICTIM, 0, bytes(128))
    yield from call("rt_tgsigqueueinfo", VICTIM, VICTIM, 0, bytes(128))
    yield from call("pidfd_open", VICTIM, 0)
    yield from call("pidfd_send_signal", PIDFD, 0, None, 0)
    yield from call("timer_create", 1, None, bytes(8))
    for name, command, value in (
        ("F_SETOWN", fcntl.F_SETOWN, VICTIM),
        ("F_SETOWN_EX", 15, lambda world: world.put(pack("=ii", 1, world.victim))),
        ("F_SETSIG", 10, int(signal.SIGURG)),
        ("F_SETFL with O_ASYNC", fcntl.F_SETFL, os.O_ASYNC),
    ):
        yield from call("fcntl", INET, command, value, label=name)
        yield from call("fcntl", INET, command | HIGH, value, label=f"{name} with a bit in the upper half")
    yield from call("fcntl", FOLDER, 1026, 1, label="F_NOTIFY")
    yield from call("fcntl", FILE, 1024, 1, label="F_SETLEASE")
    for name, request in {"FIOSETOWN": 0x8901, "SIOCSPGRP": 0x8902}.items():
        yield from call("ioctl", INET, request, lambda world: world.put(pack("=i", world.victim)), label=name)
    yield from call("ioctl", INET, 0x5452, pack("=i", 1), label="FIOASYNC")


def _tracing() -> Iterator[Attack]:
    call = partial(_call, TRACING)
    vector, limit = bytes(16), pack("=2Q", 64, 64)
    yield from call("ptrace", 0x4206, VICTIM, 0, 0, label="ptrace of another")
    yield from call("ptrace", 0, 0, 0, 0, label="ptrace by its parent")
    yield from call("process_vm_readv", VICTIM, vector, 0, vector, 0, 0)
    yield from call("process_vm_writev", VICTIM, vector, 0, vector, 0, 0)
    yield from call("process_madvise", PIDFD, vector, 0, 20, 0)
    yield from call("process_mrelease", PIDFD, 0)
    yield from call("pidfd_getfd", PIDFD, 0, 0)
    yield from call("kcmp", VICTIM, VICTIM, 1, 0, 0)
    yield from call("move_pages", VICTIM, 0, None, None, None, 0)
    yield from call("migrate_pages", VICTIM, 0, None, None)
    yield from call("prlimit64", VICTIM, 7, None, bytes(16), label="prlimit64 of another")
    yield from call("prlimit64", VICTIM, 7, limit, None, label="prlimit64 that limits another")
    yield from call("sched_setaffinity", VICTIM, 8, pack("=Q", 0xFFFF))
    yield from call("sched_setscheduler", VICTIM, 0, bytes(4))
    yield from call("sched_setparam", VICTIM, bytes(4))
    yield from call("sched_setattr", VICTIM, pack("=IIQiI3Q", 48, 0, 0, 0, 0, 0, 0, 0), 0)
    yield from call("setpriority", 0, VICTIM, 0)
    yield from call("ioprio_set", 1, VICTIM, 0x4004)
    yield from call("setpgid", VICTIM, 0)
    yield from call("get_robust_list", VICTIM, bytes(8), bytes(8))


def _code() -> Iterator[Attack]:
    call = partial(_call, CODE)
    executable, writable = mmap.PROT_READ | mmap.PROT_EXEC, mmap.PROT_WRITE
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    yield from call("mmap", 0, 4096, executable, private, -1, 0)
    yield from call("mmap", 0, 4096, executable | writable, private, -1, 0, label="mmap, writable")
    yield from call("mmap", 0, 4096, executable | HIGH, private, -1, 0, label="mmap with a bit in the upper half")
    yield from call("mmap", 0, 4096, executable, mmap.MAP_PRIVATE, PROGRAM, 0, label="mmap of a file")
    yield from call("mprotect", ADDRESS, 4096, executable)
    yield from call("mprotect", ADDRESS, 4096, executable | writable, label="mprotect, writable")
    yield from call("pkey_mprotect", ADDRESS, 4096, executable, -1)
    yield from call("pkey_alloc", 0, 0)
    yield from call("shmat", -1, None, 0o100000)
    yield from call("remap_file_pages", ADDRESS, 4096, 0, 0, 0)
    yield from call("personality", 0x0400000)
    yield from call("memfd_create", b"x\0", 0)
    yield from call("memfd_secret", 0)
    if X86_64:
        yield from call("modify_ldt", 0, bytes(64), 64)
        yield from call("map_shadow_stack", 0, 4096, 0)


def _kernel() -> Iterator[Attack]:
    call = partial(_call, KERNEL)
    yield from call("bpf", 0, bytes(128), 128, label="bpf: a map")
    yield from call("bpf", 5, bytes(128), 128, label="bpf: a program")
    yield from call("userfaultfd", 1)
    yield from call("io_uring_setup", 4, bytes(120))
    yield from call("io_uring_enter", -1, 0, 0, 0, None, 0)
    yield from call("io_uring_register", -1, 0, None, 0)
    yield from call("io_setup", 1, bytes(8))
    yield from call("io_submit", 0, 0, None)
    yield from call("keyctl", 0, -3, 0)
    yield from call("keyctl", 1, None, label="keyctl: a new keyring")
    yield from call("add_key", b"user\0", b"attack\0", b"x", 1, -2)
    yield from call("request_key", b"user\0", b"attack\0", None, 0)
    yield from call("perf_event_open", bytes(128), 0, -1, -1, 0)
    yield from call("vmsplice", -1, None, 0, 0)
    yield from call("tee", -1, -1, 0, 0)
    yield from call("copy_file_range", -1, None, -1, None, 0, 0)
    yield from call("sendfile", -1, -1, None, 0)
    yield from call("landlock_create_ruleset", None, 0, 1)
    yield from call("lsm_list_modules", bytes(64), pack("=I", 64), 0)
    yield from call("lsm_set_self_attr", 100, bytes(64), 64, 0)
    yield from call("seccomp", 1, 0, None, label="seccomp: a filter")
    yield from call("seccomp", 3, 0, bytes(8), label="seccomp: notifications")
    yield from call("set_mempolicy", 0, None, 0)
    yield from call("mbind", 0, 0, 0, None, 0, 0)
    yield from call("membarrier", 0, 0, 0)
    yield from call("cachestat", -1, bytes(16), bytes(40), 0)
    yield from call("fallocate", -1, 0, 0, 1)
    yield from call("pipe2", bytes(8), os.O_EXCL, label="pipe2: notifications")
    for name, level, option in (
        ("tables of netfilter", socket.IPPROTO_IP, 64),
        ("tables of netfilter for IPv6", socket.IPPROTO_IPV6, 64),
        ("a program", socket.SOL_SOCKET, 50),
        ("a classic program", socket.SOL_SOCKET, 26),
        ("a mark for routing", socket.SOL_SOCKET, 36),
        ("a security label", socket.IPPROTO_IP, 3),
        ("transparency", socket.IPPROTO_IP, 19),
        ("another protocol above TCP", socket.IPPROTO_TCP, 31),
        ("repair of TCP", socket.IPPROTO_TCP, 19),
        ("zero copy", socket.SOL_SOCKET, 60),
    ):
        yield from call("setsockopt", INET, level, option, bytes(128), 128, label=f"setsockopt: {name}")


def _devices() -> Iterator[Attack]:
    call = partial(_call, DEVICES, "ioctl")
    yield from call(TTY, termios.TIOCSTI, b"x", label="TIOCSTI")
    yield from call(TTY, termios.TIOCSTI | HIGH, b"x", label="TIOCSTI with a bit in the upper half")
    yield from call(TTY, 0x541C, b"\x0f", label="TIOCLINUX")
    yield from call(TTY, termios.TIOCSCTTY, 0, label="TIOCSCTTY")
    yield from call(TTY, 0x5402, bytes(64), label="TCSETS")
    yield from call(TTY, termios.TIOCSPGRP, pack("=i", 1), label="TIOCSPGRP")
    yield from call(TERMINAL, 0x5441, os.O_RDWR, label="TIOCGPTPEER")
    yield from call(TUN, 0x400454CA, bytes(40), label="TUNSETIFF")
    yield from call(TUN, 0x401054D5, bytes(16), label="TUNATTACHFILTER")
    yield from call(TUN, 0x400454CC, 0, label="TUNSETOWNER")
    for name, request in {
        "SIOCGIFCONF": 0x8912,
        "SIOCGIFADDR": 0x8915,
        "SIOCSIFADDR": 0x8916,
        "SIOCSIFFLAGS": 0x8914,
        "SIOCETHTOOL": 0x8946,
        "SIOCADDRT": 0x890B,
        "SIOCBRADDBR": 0x89A0,
    }.items():
        yield from call(INET, request, bytes(64), label=name)
    yield from call(partial(_namespace, "network"), 0xB701, 0, label="NS_GET_USERNS")
    yield from call(FILE, 0x40049409, -1, label="FICLONE")
    yield from call(FILE, 0x40086602, bytes(8), label="FS_IOC_SETFLAGS")


def _rights() -> Iterator[Attack]:
    call = partial(_call, RIGHTS)
    for name in ("setuid", "setgid", "setfsuid", "setfsgid"):
        yield from call(name, -1)
    for name in ("setreuid", "setregid", "setresuid", "setresgid"):
        yield from call(name, -1, -1, -1)
    yield from call("setgroups", 0, None)
    yield from call("capset", pack("=Ii", 0x20080522, 0), bytes(24))
    yield from call("setsid")
    yield from call("umask", 0)
    yield from call("setrlimit", 7, pack("=2Q", 64, 64))
    for name, option, value in (
        ("PR_SET_DUMPABLE", 4, 1),
        ("PR_SET_PTRACER", 0x59616D61, -1),
        ("PR_SET_CHILD_SUBREAPER", 36, 0),
        ("PR_SET_MM", 35, 1),
        ("PR_SET_PDEATHSIG", 1, 0),
        ("PR_SET_SECUREBITS", 28, 0),
        ("PR_SET_KEEPCAPS", 8, 0),
        ("PR_CAP_AMBIENT", 47, 4),
        ("PR_SET_TSC", 26, 1),
    ):
        yield from call("prctl", option, value, 0, 0, 0, label=name)
        yield from call("prctl", option | HIGH, value, 0, 0, 0, label=f"{name} with a bit in the upper half")


def _machine() -> Iterator[Attack]:
    call = partial(_call, MACHINE)
    yield from call("reboot", 0, 0, 0, None)  # its first numbers must be magic
    yield from call("init_module", None, 0, b"\0")
    yield from call("finit_module", -1, b"\0", 0)
    yield from call("delete_module", b"nonexistent\0", os.O_NONBLOCK)
    yield from call("kexec_load", 0, 1 << 30, None, 0)
    yield from call("kexec_file_load", -1, -1, 0, None, 1 << 30)
    yield from call("swapon", b"/nonexistent\0", 0)
    yield from call("swapoff", b"/nonexistent\0")
    yield from call("acct", b"/nonexistent\0")
    yield from call("sethostname", None, 1 << 30)
    yield from call("setdomainname", None, 1 << 30)
    yield from call("settimeofday", None, None)
    yield from call("clock_settime", -1, None)
    yield from call("clock_adjtime", -1, None)
    yield from call("adjtimex", None)
    yield from call("syslog", 3, bytes(16), 0)
    yield from call("quotactl", -1, None, 0, None)
    yield from call("quotactl_fd", -1, -1, 0, None)
    if X86_64:
        yield from call("iopl", 4)
        yield from call("ioperm", 0, 0, 0)
        yield from call("sysfs", 3)
        yield from call("arch_prctl", 0x1012, 0)


def _conventions() -> Iterator[Attack]:
    def attack(name: str, number: int) -> Attack:
        return Attack(CONVENTIONS, name, lambda world: world.call_numbered(number))

    if X86_64:
        x32 = 0x4000_0000
        yield Attack(CONVENTIONS, "int 0x80: getpid", lambda world: world.call_old(20))
        yield Attack(CONVENTIONS, "int 0x80: the number of read", lambda world: world.call_old(0))
        yield attack("x32: read", x32)
        yield attack("x32: getpid", x32 | NUMBERS["getpid"])
        yield attack("x32: execve", x32 | 520)
    yield attack("a number that does not exist", 5000)
    yield attack("a negative number", -10)


_MAKERS: Final = (
    _programs,
    _processes,
    _namespaces,
    _reading,
    _writing,
    _mounts,
    _sockets,
    _services,
    _signals,
    _tracing,
    _code,
    _kernel,
    _devices,
    _rights,
    _machine,
    _conventions,
)
ATTACKS: Final[tuple[Attack, ...]] = tuple(attack for maker in _MAKERS for attack in maker())


def named(*aims: str) -> set[str]:
    """The names of the attacks with some aims."""
    return {attack.name for attack in ATTACKS if attack.aim in aims}
