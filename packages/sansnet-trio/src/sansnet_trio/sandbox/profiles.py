"""The policy of the sandbox: the system calls that each process of sansnet may use once it is confined, and why.

The kernel ends a process that makes any other call, or one with other arguments. Calls that libraries make in passing,
as when they look for a file, fail with an error instead (`_REFUSED`).
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import socket as s
from collections.abc import Collection, Mapping
from enum import Enum
from typing import Final

from sansnet_trio.sandbox.profile import OWN_PROCESS, Argument, Group, Profile, Rule, allow, when

__all__ = ["BROKER", "REAPER", "RESIDENT", "SOCKET_AGENT", "Feature", "main"]


class Feature(Enum):
    """A feature for which the process that serves a guest needs further system calls."""

    CHILD = "a child that shares the terminal: a command, or QEMU"
    TAP = "the guest's interface is one of the host's kernel"
    VHOST_USER = "virtual machines share their memory"
    CLIENTS = "machines connect to a socket, or clients to the control socket"
    OLD_CONTROL = "the control socket of a kernel before Linux 5.14"
    FORWARDS = "ports are forwarded, or may be by the control socket"
    PROMPT = "questions about flows on the terminal"


# Values of arguments

_OWN: Final = Argument(0, (0, OWN_PROCESS))
_NO_FLAG: Final = 0
_NOT_EXECUTABLE: Final = Argument(2, (_NO_FLAG,), mmap.PROT_EXEC)
_MAP_DROPPABLE: Final = 0x08  # linux/mman.h: no file, and not shared
_MAP_TYPE: Final = 0x0F | mmap.MAP_ANONYMOUS
_OWN_MEMORY: Final = (
    mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
    _MAP_DROPPABLE | mmap.MAP_ANONYMOUS,  # getrandom(3) of glibc 2.41 and newer
)
_SOCKET_KIND: Final = 0xF  # without SOCK_CLOEXEC and SOCK_NONBLOCK
_NOTIFICATIONS: Final = os.O_EXCL  # O_NOTIFICATION_PIPE (linux/watch_queue.h)
_AT_EMPTY_PATH: Final = 0x1000
_SOL_NETLINK: Final = 270
_SHARING: Final = 0x7E03EF00  # linux/sched.h: CLONE_NEW*, CLONE_VM, CLONE_THREAD and all others that share or trace
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_PR_SET_DUMPABLE: Final = 4
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_SET_MODE_FILTER: Final = 1  # linux/seccomp.h
_GET_ACTION_AVAIL: Final = 2
_INTERNET: Final = Argument(0, (s.AF_INET, s.AF_INET6))
_STREAM: Final = Argument(1, (s.SOCK_STREAM,), _SOCKET_KIND), Argument(2, (0, s.IPPROTO_TCP))
_DATAGRAM: Final = (
    Argument(1, (s.SOCK_DGRAM,), _SOCKET_KIND),
    Argument(2, (0, s.IPPROTO_UDP, s.IPPROTO_ICMP, s.IPPROTO_ICMPV6)),
)

# asm-generic/ioctls.h, linux/sockios.h, linux/if_tun.h
_TCGETS: Final = 0x5401
_TCFLSH: Final = 0x540B
_TIOCGPGRP: Final = 0x540F
_TIOCSPGRP: Final = 0x5410
_TIOCOUTQ: Final = 0x5411
_FIONREAD: Final = 0x541B
_FIONBIO: Final = 0x5421
_FIOCLEX: Final = 0x5451
_SIOCGIFNAME: Final = 0x8910
_SIOCGIFINDEX: Final = 0x8933
_OF_NAMESPACES: Final = (0xB701, 0xB702, 0xB703, 0xB704)  # linux/nsfs.h: owner, parent, kind, user
_TUNSETPERSIST: Final = 0x400454CB

# asm-generic/socket.h, linux/tcp.h, linux/udp.h, linux/in.h, linux/in6.h. Of the options of sockets, those that run
# programs (SO_ATTACH_FILTER and the like), load modules (TCP_ULP) or give descriptors (SO_PEERPIDFD) are not there.
_SOCKET: Final = {
    "REUSEADDR": 2, "SNDBUF": 7, "RCVBUF": 8, "KEEPALIVE": 9, "OOBINLINE": 10, "LINGER": 13, "BINDTODEVICE": 25,
    "BINDTOIFINDEX": 62,
}  # fmt: skip
_READ_OF_SOCKET: Final = {
    "TYPE": 3, "ERROR": 4, "SNDBUF": 7, "RCVBUF": 8, "PEERCRED": 17, "ACCEPTCONN": 30, "PROTOCOL": 38, "DOMAIN": 39,
    "NETNS_COOKIE": 71,
}  # fmt: skip
_TCP: Final = {
    "NODELAY": 1, "KEEPIDLE": 4, "KEEPINTVL": 5, "KEEPCNT": 6, "USER_TIMEOUT": 18, "NOTSENT_LOWAT": 25,
}  # fmt: skip
_READ_OF_TCP: Final = {"INFO": 11}
_UDP: Final = {"SEGMENT": 103, "GRO": 104}
_IP: Final = {
    "TOS": 1, "TTL": 2, "PKTINFO": 8, "MTU_DISCOVER": 10, "RECVERR": 11, "RECVTTL": 12, "RECVTOS": 13, "FREEBIND": 15,
    "BIND_ADDRESS_NO_PORT": 24, "MULTICAST_TTL": 33, "MULTICAST_LOOP": 34, "MULTICAST_ALL": 49,
}  # fmt: skip
_IPV6: Final = {
    "UNICAST_HOPS": 16, "MULTICAST_HOPS": 18, "MULTICAST_LOOP": 19, "MTU_DISCOVER": 23, "RECVERR": 25, "V6ONLY": 26,
    "MULTICAST_ALL": 29, "RECVPKTINFO": 49, "RECVHOPLIMIT": 51, "RECVTCLASS": 66, "TCLASS": 67,
}  # fmt: skip


def _option(level: int, options: Mapping[str, int]) -> tuple[Argument, Argument]:
    return Argument(1, (level,)), Argument(2, tuple(options.values()))


# Groups

_PYTHON: Final = Group(
    "memory, time, signals and the end of a Python process",
    (
        *allow("brk", "munmap", "mremap", "madvise"),
        *when("mmap", _NOT_EXECUTABLE, Argument(3, _OWN_MEMORY, _MAP_TYPE)),
        *when("mprotect", _NOT_EXECUTABLE),
        *allow("clock_gettime", "clock_getres", "gettimeofday", "time", "clock_nanosleep", "nanosleep"),
        *allow("futex", "sched_yield", "getrandom"),
        *allow("rt_sigaction", "rt_sigprocmask", "rt_sigpending", "rt_sigreturn", "sigaltstack", "restart_syscall"),
        *when("tgkill", Argument(0, (OWN_PROCESS,))),
        *when("tkill", Argument(0, (OWN_PROCESS,))),
        *when("kill", Argument(0, (OWN_PROCESS,))),
        *when("prctl", Argument(0, (_PR_SET_DUMPABLE,)), Argument(1, (0,))),
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
        *allow("read", "readv", "pread64", "write", "writev", "lseek", "close", "fstat"),
        *when("newfstatat", Argument(3, (_AT_EMPTY_PATH,))),
        *allow("poll", "ppoll", "select", "pselect6", "epoll_create1", "epoll_ctl"),
        *allow("epoll_wait", "epoll_pwait", "epoll_pwait2", "eventfd2"),
        *when(
            "fcntl",
            Argument(
                1,
                (fcntl.F_DUPFD_CLOEXEC, fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL),
            ),
        ),
        *when("fcntl", Argument(1, (fcntl.F_SETFL,)), Argument(2, (_NO_FLAG,), os.O_ASYNC)),  # O_ASYNC sends signals
        *when("ioctl", Argument(1, (_FIONBIO, _FIOCLEX, _TCGETS))),
    ),
)
_CHANNELS: Final = Group(
    "sockets that are open: those to other processes of sansnet, and the guest's",
    allow("sendto", "recvfrom", "sendmsg", "recvmsg", "shutdown", "getsockname", "getpeername"),
)
_FILES: Final = Group(
    "captures, recordings, logs and audits, which are open",
    allow("pwrite64", "ftruncate", "fsync", "fdatasync", "flock"),
)
_NETWORK: Final = Group(
    "the guest's flows",
    (
        *when("socket", _INTERNET, *_STREAM),
        *when("socket", _INTERNET, *_DATAGRAM),
        *allow("bind", "connect"),
        *when("ioctl", Argument(1, (_SIOCGIFNAME, _SIOCGIFINDEX))),
        *when("setsockopt", *_option(s.SOL_SOCKET, _SOCKET)),
        *when("setsockopt", *_option(s.IPPROTO_TCP, _TCP)),
        *when("setsockopt", *_option(s.IPPROTO_UDP, _UDP)),
        *when("setsockopt", *_option(s.IPPROTO_IP, _IP)),
        *when("setsockopt", *_option(s.IPPROTO_IPV6, _IPV6)),
        *when("getsockopt", *_option(s.SOL_SOCKET, _READ_OF_SOCKET)),
        *when("getsockopt", *_option(s.IPPROTO_TCP, _READ_OF_TCP)),
    ),
)
_CHILDREN: Final = Group("the ends of children", allow("waitid", "wait4"))
_OWN_CHILDREN: Final = Group(
    "the ends of children, and signals to them, by descriptors; it cannot open those of other processes",
    allow("waitid", "wait4", "pidfd_send_signal"),
)
_SERVING: Final = (_OWN_CHILDREN, _PYTHON, _QUESTIONS, _DESCRIPTORS, _CHANNELS, _NETWORK, _FILES)

_OF_FEATURES: Final[Mapping[Feature, tuple[Rule, ...]]] = {
    Feature.CHILD: (
        *when("ioctl", Argument(1, (_TIOCGPGRP, _TIOCSPGRP))),
        *allow("getpgid", "getpriority"),  # whether a process group exists
    ),
    Feature.TAP: when("ioctl", Argument(1, (_TUNSETPERSIST,))),
    Feature.VHOST_USER: (
        *when("mmap", _NOT_EXECUTABLE, Argument(3, (mmap.MAP_SHARED,), _MAP_TYPE)),
        *when("fcntl", Argument(1, (fcntl.F_ADD_SEALS, fcntl.F_GET_SEALS))),
    ),
    Feature.CLIENTS: allow("accept4", "accept"),
    Feature.OLD_CONTROL: allow("newfstatat"),
    Feature.FORWARDS: (
        *allow("listen", "accept4", "accept"),
        *when("pipe2", Argument(1, (_NO_FLAG,), _NOTIFICATIONS)),
        *allow("splice"),  # from loopback to loopback
        *when("fcntl", Argument(1, (fcntl.F_SETPIPE_SZ, fcntl.F_GETPIPE_SZ))),
        *when("ioctl", Argument(1, (_FIONREAD, _TIOCOUTQ))),  # what is on its way
    ),
    Feature.PROMPT: when("ioctl", Argument(1, (_TIOCGPGRP, _TCFLSH, _FIONREAD))),
}

_REFUSED: Final = {
    **dict.fromkeys(
        (
            *("open", "openat", "openat2", "stat", "lstat", "newfstatat", "statx", "access", "faccessat"),
            *("faccessat2", "readlink", "readlinkat", "getcwd", "getdents64", "unlink", "unlinkat", "rmdir"),
        ),
        errno.EACCES,
    ),
    **dict.fromkeys(
        ("kill", "prctl", "sysinfo", "sched_getaffinity", "prlimit64", "getpgid", "membarrier", "getcpu"), errno.EPERM
    ),
    "ioctl": errno.ENOTTY,
}
"""The calls that fail instead of ending the process -> errno: searches for files, questions, and terminals."""


def main(features: Collection[Feature] = ()) -> Profile:
    """The profile of the process that serves a guest.

    Args:
        features: what it needs beside the network, the link, and the channels to its helpers.
    """
    return Profile(
        name="sansnet",
        groups=(*_SERVING, *(Group(each.value, _OF_FEATURES[each]) for each in Feature if each in features)),
        refused=_REFUSED,
        files=None if Feature.OLD_CONTROL in features else {},  # with Landlock, it could not look at its clients
        signals=True,  # its helpers are not confined with it
        connects=True,
    )


# The helper processes

_ISOLATION: Final = Group(
    "entering namespaces, and giving up privileges, as a process begins",
    (
        *allow("setns", "setsid", "chdir", "capget", "capset", "close_range", "dup2", "dup3"),
        *when("prctl", Argument(0, (_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT))),
        *when("seccomp", Argument(0, (_SET_MODE_FILTER, _GET_ACTION_AVAIL))),
        *allow("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"),
        *allow("set_robust_list", "set_tid_address"),  # fork(3) of glibc and musl, in the child
    ),
)
_NETLINK: Final = Group(
    "addresses and routes, by netlink, and numbers of interfaces",
    (
        *when("socket", Argument(0, (s.AF_NETLINK,)), Argument(2, (s.NETLINK_ROUTE,))),
        *when("socket", Argument(0, (s.AF_INET,)), Argument(1, (s.SOCK_DGRAM,), _SOCKET_KIND), Argument(2, (0,))),
        *allow("bind"),
        *when("setsockopt", *_option(s.SOL_SOCKET, _SOCKET)),
        *when("setsockopt", Argument(1, (_SOL_NETLINK,))),
        *when("getsockopt", *_option(s.SOL_SOCKET, _READ_OF_SOCKET)),
        *when("ioctl", Argument(1, (_SIOCGIFNAME, _SIOCGIFINDEX))),
    ),
)
_MADE_SOCKETS: Final = Group(
    "sockets of the guest's network",
    (*when("socket", _INTERNET, *_STREAM), *when("socket", _INTERNET, *_DATAGRAM)),
)
_HELPER: Final = (_PYTHON, _QUESTIONS, _DESCRIPTORS, _CHANNELS)

SOCKET_AGENT: Final = Profile(name="socket agent", groups=(*_HELPER, _MADE_SOCKETS), refused=_REFUSED)
"""The process that makes sockets in the guest's network, and sends their descriptors to the main process."""

RESIDENT: Final = Profile(name="resident", groups=(*_HELPER, _NETLINK), refused=_REFUSED)
"""The process that changes addresses and routes of the guest's interface."""

BROKER: Final = Profile(
    name="broker",
    groups=(
        *_HELPER,
        _NETLINK,
        _FILES,
        Group(
            "files that sansnet reads, makes and removes",
            (
                *allow("open", "openat", "stat", "lstat", "newfstatat", "statx", "access", "faccessat", "faccessat2"),
                *allow("readlink", "readlinkat", "getdents64", "getcwd", "statfs", "fstatfs"),
                *allow("mkdir", "mkdirat"),
                *allow("unlink", "unlinkat", "rmdir", "rename", "renameat", "renameat2", "link", "linkat"),
                *allow("chmod", "fchmod", "fchmodat", "umask", "utimensat"),
                *allow("inotify_init1", "inotify_add_watch", "inotify_rm_watch"),
            ),
        ),
        Group(
            "children that enter the guest's namespaces: socket agents, and those that change the guest",
            (
                *when("clone", Argument(0, (0,), _SHARING)),
                *allow("fork", "wait4", "waitid", "pidfd_open", "pidfd_send_signal", "kill"),
                *when("socketpair", Argument(0, (s.AF_UNIX,))),
                *allow("memfd_create", "mount", "umount2"),
                *when("ioctl", Argument(1, _OF_NAMESPACES)),
            ),
        ),
        _ISOLATION,
        _MADE_SOCKETS,
    ),
    refused=_REFUSED,
    files=None,  # with Landlock, no child could enter the guest's namespaces and mount a file there
)
"""The process that opens files, watches the host's network, and starts others. It never sees a byte of the guest."""

REAPER: Final = Profile(
    name="reaper",
    groups=(
        *_HELPER,
        _CHILDREN,
        Group("signals to the guest's processes, which its PID namespace bounds", allow("kill", "getpgid")),
    ),
    refused=_REFUSED,
    signals=True,
)
"""Process 1 of the guest's PID namespace."""
