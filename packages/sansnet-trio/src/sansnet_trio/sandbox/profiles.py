"""The policy of the sandbox: the system calls that each process of sansnet may use once it is confined, and why.

The kernel ends a process that makes any other call, or one with other arguments. Calls that libraries make in passing,
as when they look for a file, fail with an error instead (`_REFUSED`).
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import socket as s
from collections.abc import Collection, Mapping
from enum import Enum
from typing import Final

from sansnet_trio.sandbox.profile import OWN_PROCESS, Argument, Group, Profile, allow, when

__all__ = ["BROKER", "REAPER", "RESIDENT", "SOCKET_AGENT", "Feature", "main"]


class Feature(Enum):
    """A feature for which the process that serves a guest needs further system calls."""

    CHILD = "a child is waited for and gets signals: a command, or QEMU"
    OLD_CONTROL = "the control socket of a kernel before Linux 5.14"
    PROMPT = "questions about flows on the terminal"
    SYSTEM_LOG = "messages go to the system's log"
    VHOST_USER = "virtual machines share their memory"


# Values of arguments

_OWN: Final = Argument(0, (0, OWN_PROCESS))
_NO_FLAG: Final = 0
_NOT_EXECUTABLE: Final = Argument(2, (_NO_FLAG,), mmap.PROT_EXEC)
_MAP_TYPE: Final = mmap.MAP_SHARED | mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
_SOCKET_KIND: Final = 0xF  # without SOCK_CLOEXEC and SOCK_NONBLOCK
_AT_EMPTY_PATH: Final = 0x1000
_INTERNET: Final = Argument(0, (s.AF_INET, s.AF_INET6))
_TCP: Final = Argument(1, (s.SOCK_STREAM,), _SOCKET_KIND), Argument(2, (0, s.IPPROTO_TCP))
_UDP_OR_PING: Final = (
    Argument(1, (s.SOCK_DGRAM,), _SOCKET_KIND),
    Argument(2, (0, s.IPPROTO_UDP, s.IPPROTO_ICMP, s.IPPROTO_ICMPV6)),
)

# linux/sched.h, asm-generic/ioctls.h, asm-generic/socket.h, linux/in.h, linux/in6.h, linux/udp.h, linux/if_tun.h
_TCGETS: Final = 0x5401
_TCFLSH: Final = 0x540B
_TIOCGPGRP: Final = 0x540F
_FIONBIO: Final = 0x5421
_SIOCGIFINDEX: Final = 0x8933
_TUNSETPERSIST: Final = 0x400454CB
_SO_NETNS_COOKIE: Final = 71
_IP: Final = {
    "TOS": 1, "TTL": 2, "PKTINFO": 8, "MTU_DISCOVER": 10, "RECVERR": 11, "RECVTTL": 12, "RECVTOS": 13, "FREEBIND": 15,
    "BIND_ADDRESS_NO_PORT": 24, "MULTICAST_TTL": 33, "MULTICAST_LOOP": 34, "MULTICAST_ALL": 49,
}  # fmt: skip
_IPV6: Final = {
    "UNICAST_HOPS": 16, "MULTICAST_HOPS": 18, "MULTICAST_LOOP": 19, "MTU_DISCOVER": 23, "RECVERR": 25, "V6ONLY": 26,
    "MULTICAST_ALL": 29, "RECVPKTINFO": 49, "RECVHOPLIMIT": 51, "RECVTCLASS": 66, "TCLASS": 67,
}  # fmt: skip
_TCP_NOTSENT_LOWAT: Final = 25
_UDP_SEGMENT: Final = 103
_UDP_GRO: Final = 104


def _set(level: int, *options: int) -> tuple[Argument, Argument]:
    return Argument(1, (level,)), Argument(2, options)


# Groups

_PYTHON: Final = Group(
    "memory, time, signals and the end of a Python process",
    (
        *allow("brk", "munmap", "mremap", "madvise"),
        *when("mmap", _NOT_EXECUTABLE, Argument(3, (mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,), _MAP_TYPE)),
        *when("mprotect", _NOT_EXECUTABLE),
        *allow("clock_gettime", "clock_getres", "gettimeofday", "time", "clock_nanosleep", "nanosleep"),
        *allow("futex", "sched_yield", "getrandom"),
        *allow("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall"),
        *when("tgkill", Argument(0, (OWN_PROCESS,))),
        *when("tkill", Argument(0, (OWN_PROCESS,))),
        *when("kill", Argument(0, (OWN_PROCESS,))),
        *allow("exit", "exit_group"),
    ),
)
_QUESTIONS: Final = Group(
    "questions of libraries about this process alone",
    (
        *allow("getpid", "getppid", "gettid", "getuid", "geteuid", "getgid", "getegid", "getrusage", "uname"),
        *when("sched_getaffinity", _OWN),
        *when("getpgid", _OWN),
        *allow("getpgrp"),
        *when("prlimit64", _OWN),
        *allow("getrlimit"),
    ),
)
_DESCRIPTORS: Final = Group(
    "descriptors that are open, and those that need no name",
    (
        *allow("read", "readv", "pread64", "write", "writev", "pwrite64", "lseek", "close", "fstat", "ftruncate"),
        *when("newfstatat", Argument(3, (_AT_EMPTY_PATH,))),
        *allow("poll", "ppoll", "select", "pselect6", "epoll_create1", "epoll_ctl"),
        *allow("epoll_wait", "epoll_pwait", "epoll_pwait2", "eventfd2"),
        *when(
            "fcntl",
            Argument(
                1,
                (fcntl.F_DUPFD_CLOEXEC, fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_SETFL),
            ),
        ),
        *when("ioctl", Argument(1, (_FIONBIO, _TCGETS))),
    ),
)
_CHANNELS: Final = Group(
    "sockets that are open: those to other processes of sansnet, and the guest's",
    allow("sendto", "recvfrom", "sendmsg", "recvmsg", "shutdown", "getsockname", "getpeername"),
)
_FILES: Final = Group(
    "captures, recordings, logs and audits, which are open",
    (*allow("fsync", "fdatasync", "dup"), *when("fcntl", Argument(1, (fcntl.F_ADD_SEALS, fcntl.F_GET_SEALS)))),
)
_TAP: Final = Group("the guest's interface", when("ioctl", Argument(1, (_TUNSETPERSIST,))))
_NETWORK: Final = Group(
    "the guest's flows and the forwarded ports",
    (
        *when("socket", _INTERNET, *_TCP),
        *when("socket", _INTERNET, *_UDP_OR_PING),
        *allow("connect", "bind", "listen", "accept4", "accept"),
        *when(
            "setsockopt",
            *_set(
                s.SOL_SOCKET,
                *(s.SO_REUSEADDR, s.SO_SNDBUF, s.SO_RCVBUF, s.SO_KEEPALIVE, s.SO_OOBINLINE, s.SO_LINGER),
                s.SO_BINDTODEVICE,
            ),
        ),
        *when("setsockopt", *_set(s.IPPROTO_IP, *_IP.values())),
        *when("setsockopt", *_set(s.IPPROTO_IPV6, *_IPV6.values())),
        *when(
            "setsockopt",
            *_set(
                s.IPPROTO_TCP,
                *(s.TCP_NODELAY, s.TCP_KEEPIDLE, s.TCP_KEEPINTVL, s.TCP_KEEPCNT, s.TCP_USER_TIMEOUT),
                _TCP_NOTSENT_LOWAT,
            ),
        ),
        *when("setsockopt", *_set(s.IPPROTO_UDP, _UDP_SEGMENT, _UDP_GRO)),
        *when(
            "getsockopt",
            *_set(
                s.SOL_SOCKET,
                *(s.SO_TYPE, s.SO_ERROR, s.SO_SNDBUF, s.SO_RCVBUF, s.SO_PROTOCOL, s.SO_DOMAIN, s.SO_ACCEPTCONN),
                *(s.SO_PEERCRED, _SO_NETNS_COOKIE),
            ),
        ),
        *when("getsockopt", *_set(s.IPPROTO_TCP, s.TCP_INFO)),
    ),
)
_SPLICES: Final = Group(
    "connections from loopback to loopback",
    (*allow("pipe2", "splice"), *when("fcntl", Argument(1, (fcntl.F_SETPIPE_SZ, fcntl.F_GETPIPE_SZ)))),
)

_ADDED: Final[Mapping[Feature, Group]] = {
    Feature.CHILD: Group(
        "the child's state and signals; only descriptors of processes can be used, and no new ones are made",
        allow("waitid", "wait4", "pidfd_send_signal"),
    ),
    Feature.OLD_CONTROL: Group(
        "whether a client shares our network namespace, on kernels without SO_NETNS_COOKIE", allow("newfstatat")
    ),
    Feature.PROMPT: Group("the terminal, which is open", when("ioctl", Argument(1, (_TCFLSH, _TIOCGPGRP)))),
    Feature.SYSTEM_LOG: Group(
        "connecting again to the system's log when it has restarted",
        when("socket", Argument(0, (s.AF_UNIX,)), Argument(1, (s.SOCK_DGRAM,), _SOCKET_KIND)),
    ),
    Feature.VHOST_USER: Group(
        "the memory of virtual machines",
        when("mmap", _NOT_EXECUTABLE, Argument(3, (mmap.MAP_SHARED,), _MAP_TYPE)),
    ),
}

_REFUSED: Final = {
    **dict.fromkeys(
        (
            *("open", "openat", "openat2", "stat", "lstat", "newfstatat", "statx", "access", "faccessat"),
            *("faccessat2", "readlink", "readlinkat", "getcwd", "unlink", "unlinkat", "rmdir"),
        ),
        errno.EACCES,
    ),
    **dict.fromkeys(("kill", "prctl", "sysinfo", "sched_getaffinity", "prlimit64", "getpgid"), errno.EPERM),
    "ioctl": errno.ENOTTY,
}
"""The calls that fail instead of ending the process -> errno: searches for files, questions, and terminals."""


def main(features: Collection[Feature] = ()) -> Profile:
    """The profile of the process that serves a guest.

    Args:
        features: what it needs beside the network, the link, and the channels to its helpers.
    """
    base = (_PYTHON, _QUESTIONS, _DESCRIPTORS, _CHANNELS, _NETWORK, _SPLICES, _FILES, _TAP)
    return Profile(
        name="sansnet",
        groups=base + tuple(_ADDED[feature] for feature in Feature if feature in features),
        refused=_REFUSED,
        files=None if Feature.OLD_CONTROL in features else {},  # Landlock forbids to look at other processes
        signals=Feature.CHILD in features,
        connects=True,
    )


SOCKET_AGENT: Final = Profile(
    name="socket agent",
    groups=(
        _PYTHON,
        _QUESTIONS,
        _DESCRIPTORS,
        _CHANNELS,
        Group(
            "sockets of the guest's network",
            (*when("socket", _INTERNET, *_TCP), *when("socket", _INTERNET, Argument(1, (s.SOCK_DGRAM,), _SOCKET_KIND))),
        ),
    ),
    refused=_REFUSED,
)
"""The process that makes sockets in the guest's network, and sends their descriptors to the main process."""

RESIDENT: Final = Profile(
    name="resident",
    groups=(
        _PYTHON,
        _QUESTIONS,
        _DESCRIPTORS,
        _CHANNELS,
        Group(
            "addresses and routes, by netlink",
            (
                *when("socket", Argument(0, (s.AF_NETLINK,)), Argument(2, (s.NETLINK_ROUTE,))),
                *when("socket", Argument(0, (s.AF_UNIX, s.AF_INET)), Argument(1, (s.SOCK_DGRAM,), _SOCKET_KIND)),
                *allow("bind", "setsockopt"),
                *when("ioctl", Argument(1, (_SIOCGIFINDEX,))),
            ),
        ),
    ),
    refused=_REFUSED,
)
"""The process that changes addresses and routes of the guest's interface."""

BROKER: Final = Profile(name="broker", groups=(_PYTHON, _QUESTIONS, _DESCRIPTORS, _CHANNELS), refused=_REFUSED)
"""The process that opens files, and watches the host's network."""

REAPER: Final = Profile(name="reaper", groups=(_PYTHON, _QUESTIONS, _DESCRIPTORS, _CHANNELS), refused=_REFUSED)
"""Process 1 of the guest's PID namespace."""
