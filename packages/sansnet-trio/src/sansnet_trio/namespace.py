"""A guest that is a command in namespaces of its own: made, configured, started and waited for.

Theory of operation. `Guest.fork` forks a child that becomes the command. Step by step, with a socket between the two:

    parent                                child
    fork -------------------------------> new user namespace
    map the user into it <--------------- "made"
    "mapped" ---------------------------> prepare(), still in the host's network: what shall the guest be like?
    (free to do something else)           new network and mount namespaces; open the tap; configure it
    ready() <---------------------------- the tap's descriptor, what it can do, what prepare() said
    start() ----------------------------> exec
    wait() <----------------------------- exit

The child is a plain process of one thread that no event loop knows; what goes wrong in it travels back as an exception.
A new user namespace makes an ordinary user privileged over the other new ones, and nothing else; root gets one too, so
that both take the same path. Nothing is given a name, so nothing is left behind: namespaces, mounts and interface are
gone with the last process that is in them. The child has the terminal, session and process group of its parent, and
does not outlive it. What it left in the background would have no network any more, so that is ended with it; only if
the parent is killed by SIGKILL does that go on.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, TypeVar

from sansnet_core import addresses
from sansnet_core.config import LinkConfig
from sansnet_core.errors import SansnetError, UsageError
from sansnet_trio import leftovers, syscalls
from sansnet_trio.agent import Agent, Socket
from sansnet_trio.descriptors import receive_descriptors
from sansnet_trio.hostinfo import RESOLV_CONF, InterfaceAddress, Route
from sansnet_trio.links.tap import MTU, open_tap

if TYPE_CHECKING:
    from pyroute2 import IPRoute

__all__ = ["CommandNotExecutable", "CommandNotFound", "Guest", "GuestError", "GuestPlan", "ReadyGuest"]

T = TypeVar("T")

_MESSAGE_SIZE: Final = 1 << 16
_MAX_GID: Final = (1 << 31) - 1
"""The last group that ping_group_range takes (net/ipv4/ping.c)."""

_PATIENCE: Final = 0.5
"""Seconds between SIGTERM and SIGKILL for what the command left."""
_LOOK: Final = 0.01

_IFA_F_NODAD: Final = 0x02
_RTNH_F_ONLINK: Final = 4
_RT_SCOPE_LINK: Final = 253
_LOOPBACK_INDEX: Final = 1


class GuestError(SansnetError):
    """A guest could not be made; the message is one sentence that names the remedy."""


class CommandNotFound(GuestError):
    """There is no such program."""


class CommandNotExecutable(GuestError):
    """There is such a file, but it cannot be executed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestPlan:
    """What a guest is to have.

    Attributes:
        interface: name of its interface.
        mtu: of the interface, in bytes.
        mac: its Ethernet address; None leaves it to the kernel.
        configure: whether the interface gets addresses and routes, and is brought up. If not, that is left to a DHCP
            client or the like in the guest.
        addresses, routes: of the interface, both families.
        ipv6: whether the interface may have IPv6 at all.
        resolv_conf: contents of the guest's /etc/resolv.conf; None leaves it as it is on the host.
        hostname: None leaves it as it is on the host.
    """

    interface: str = "tap0"
    mtu: int = MTU.default
    mac: bytes | None = None
    configure: bool = True
    addresses: tuple[InterfaceAddress, ...] = ()
    routes: tuple[Route, ...] = ()
    ipv6: bool = True
    resolv_conf: str | None = None
    hostname: str | None = None


@dataclass(frozen=True, slots=True)
class ReadyGuest(Generic[T]):
    """What `Guest.ready` says.

    Attributes:
        tap: an open tap, the reader's to close; with `link` it makes a `Tap`.
        link: what the tap can do.
        prepared: what `prepare` returned besides the plan.
        warnings: sentences about what could not be had, and was done without.
    """

    tap: int
    link: LinkConfig
    prepared: T
    warnings: tuple[str, ...]


class Guest(Generic[T]):
    """A command in user, network and mount namespaces of its own. Made by `fork`.

    Close it, or use it as a context manager: a command that still runs then is killed, and so is what it started.
    It makes sockets of the guest's network (`GuestSockets`).

    Attributes:
        pid: of the command.
    """

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self._channel = channel
        self._pidfd = os.pidfd_open(pid)
        self._status: int | None = None
        self._namespace: leftovers.NetworkNamespace | None = None
        self._agent: Agent | None = None

    @classmethod
    def fork(cls, command: Sequence[str], prepare: Callable[[], tuple[GuestPlan, T]]) -> Guest[T]:
        """Fork a child that prepares the guest and waits for `start`. Blocks for some milliseconds.

        As always with fork, the program should have one thread only.

        Args:
            command: the program, looked up in PATH, and its arguments.
            prepare: says what the guest is to have. It runs in the child, in the host's network namespace, while the
                parent goes on; whatever else it returns comes to the parent with `ready`, pickled.

        Raises:
            GuestError: there are no user namespaces for us.
            UsageError: the command is empty.
        """
        if not command:
            raise UsageError("a guest needs a command: the name of a program, and its arguments")
        channel, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            channel.close()
            _become(command, prepare, other, parent)
        other.close()
        guest: Guest[T] = cls(pid, channel)
        try:
            guest._receive()
            _map_identity(pid)
            guest._send("mapped")
        except BaseException:
            guest.close()
            raise
        return guest

    async def ready(self) -> ReadyGuest[T]:
        """Wait until the guest is configured and the command could start.

        Raises:
            GuestError: the guest could not be made.
            EOFError: a signal ended the child.
            Exception: whatever `prepare` raised.
        """
        import trio

        await trio.lowlevel.wait_readable(self._channel)
        return self._receive_ready()

    def start(self) -> None:
        """Let the command begin."""
        self._send("start")

    async def wait(self) -> int:
        """Wait until the command ends.

        Returns:
            Its exit status, or if a signal ended it, the negative number of that.

        Raises:
            CommandNotFound: it never began, since there is no such program.
            CommandNotExecutable: it never began, since it cannot be executed.
        """
        import trio

        await trio.lowlevel.wait_readable(self._pidfd)
        status = self._reap()
        with contextlib.suppress(EOFError):  # the socket closes on exec: nothing there means that the command began
            self._receive()
        return status

    def send_signal(self, number: int) -> None:
        """Send the command a signal, unless it has ended."""
        if self._status is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def socket(self, family: int, kind: int) -> Socket:
        """See `GuestSockets`. From `ready` to the command's end; the first call starts a process that makes them."""
        if self._status is not None:
            raise ProcessLookupError(errno.ESRCH, "the guest has ended")
        if self._agent is None:
            self._agent = Agent.fork(self._join)
        return self._agent.socket(family, kind)

    def _join(self) -> None:
        with open(f"/proc/{self.pid}/ns/user") as user, open(f"/proc/{self.pid}/ns/net") as network:
            syscalls.setns(user.fileno(), syscalls.CLONE_NEWUSER)
            syscalls.setns(network.fileno(), syscalls.CLONE_NEWNET)

    def _end_agent(self) -> None:
        if self._agent is not None:
            self._agent.close()
            self._agent = None

    async def end_leftovers(self) -> None:
        """End the processes that the command left in its network namespace: politely, and after 0.5 s by force."""
        import trio

        if self._namespace is None:
            return
        self._end_agent()
        with trio.move_on_after(_PATIENCE):
            # One that is stopped must go on to hear the other signal.
            numbers = [signal.SIGTERM, signal.SIGCONT]
            while leftovers.signal_leftovers(self._namespace, numbers):
                numbers = []
                await trio.sleep(_LOOK)
        leftovers.kill_leftovers(self._namespace)

    def close(self) -> None:
        """Kill the command and what it left, and close the descriptors. A second call does nothing."""
        if self._pidfd < 0:
            return
        self.send_signal(signal.SIGKILL)
        self._reap()
        self._end_agent()
        if self._namespace is not None:
            leftovers.kill_leftovers(self._namespace)
        self._channel.close()
        os.close(self._pidfd)
        self._pidfd = -1

    def __enter__(self) -> Guest[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, message: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has died; `_receive` tells why
            self._channel.send(pickle.dumps(message))

    def _receive(self) -> Any:
        data = self._channel.recv(_MESSAGE_SIZE)
        if not data:
            raise EOFError
        message = pickle.loads(data)
        if isinstance(message, BaseException):
            raise message
        return message

    def _receive_ready(self) -> ReadyGuest[T]:
        data, descriptors = receive_descriptors(self._channel, _MESSAGE_SIZE, 1)
        if not data:
            raise EOFError
        message = pickle.loads(data)
        if isinstance(message, BaseException):
            raise message
        if not descriptors:  # the kernel drops what there is no number left for
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self._namespace, *rest = message
        return ReadyGuest(descriptors[0], *rest)

    def _reap(self) -> int:
        if self._status is None:
            _, status = os.waitpid(self.pid, 0)
            self._status = os.waitstatus_to_exitcode(status)
        return self._status


# the parent's part


def _map_identity(pid: int) -> None:
    """Give the user namespace of a process the users and groups that it is to have.

    Root's namespace has all that ours has, under the same numbers; an ordinary user's has that user alone, as root
    (user_namespaces(7): more takes privileges).
    """
    directory = Path(f"/proc/{pid}")
    try:
        if os.geteuid() == 0:
            with contextlib.suppress(PermissionError):  # root without CAP_SETUID is no more than a user here
                for name in ("gid_map", "uid_map"):
                    (directory / name).write_text(_same_numbers(name))
                return
        (directory / "setgroups").write_text("deny")
        (directory / "uid_map").write_text(f"0 {os.geteuid()} 1")
        (directory / "gid_map").write_text(f"0 {os.getegid()} 1")
    except PermissionError as error:
        raise _not_permitted("this user cannot be mapped into a user namespace") from error


def _same_numbers(name: str) -> str:
    """Our own map, but from what is here to the same there."""
    extents = [line.split() for line in Path(f"/proc/self/{name}").read_text().splitlines()]
    return "".join(f"{first} {first} {count}\n" for first, _, count in extents)


# the child's part


def _become(
    command: Sequence[str], prepare: Callable[[], tuple[GuestPlan, T]], channel: socket.socket, parent: int
) -> NoReturn:
    """Be the child: make the guest, then become the command."""
    try:
        _reset_signals()
        _unshare_user()
        syscalls.set_parent_death_signal(signal.SIGKILL)
        if os.getppid() == parent:
            _make(command, prepare, channel)
    except BaseException as error:
        with contextlib.suppress(OSError):  # nobody is left to be told
            channel.send(_pickled(error))
    finally:
        os._exit(1)


def _make(command: Sequence[str], prepare: Callable[[], tuple[GuestPlan, T]], channel: socket.socket) -> None:
    channel.send(pickle.dumps("made"))
    if not channel.recv(_MESSAGE_SIZE):
        return
    plan, prepared = prepare()
    warnings: list[str] = []
    _unshare_network(plan)
    _prepare_mounts(plan, warnings)
    _allow_ping()
    tap, link = _open_tap(plan)
    _configure(plan, warnings)
    message = (leftovers.own_namespace(), link, prepared, tuple(warnings))
    socket.send_fds(channel, [pickle.dumps(message)], [tap])
    if channel.recv(_MESSAGE_SIZE):
        _execute(command)


def _pickled(error: BaseException) -> bytes:
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
    except Exception:
        return pickle.dumps(GuestError(f"{type(error).__name__}: {error}"))
    return data


def _reset_signals() -> None:
    """Undo what Python and event loops did: handlers of theirs, and signals that Python ignores for its own sake."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)


def _unshare_user() -> None:
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EUSERS):
            raise _too_many("user") from error
        if error.errno == errno.EINVAL:
            raise GuestError("this kernel has no user namespaces; use one built with CONFIG_USER_NS") from error
        raise _not_permitted("user namespaces cannot be made") from error


def _unshare_network(plan: GuestPlan) -> None:
    kinds = {"net": syscalls.CLONE_NEWNET, "mnt": syscalls.CLONE_NEWNS}
    if plan.hostname is not None:
        kinds["uts"] = syscalls.CLONE_NEWUTS
    for kind, flag in kinds.items():
        try:
            syscalls.unshare(flag)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise _too_many(kind) from error
            raise _not_permitted(f"a new namespace ({kind}) cannot be made") from error
    if plan.hostname is not None:
        socket.sethostname(plan.hostname)


def _too_many(kind: str) -> GuestError:
    name = f"user.max_{kind}_namespaces"
    return GuestError(f"no more namespaces ({kind}) are allowed here; raise the limit as root: sysctl -w {name}=10000")


def _not_permitted(what: str) -> GuestError:
    """Why the kernel may have said EPERM, as its switches tell."""
    for name, value in (("kernel/apparmor_restrict_unprivileged_userns", 1), ("kernel/unprivileged_userns_clone", 0)):
        with contextlib.suppress(OSError):
            if Path("/proc/sys", name).read_text().strip() == str(value):
                setting = f"{name.replace('/', '.')}={1 - value}"
                return GuestError(f"{what}, since user namespaces are restricted here; as root: sysctl -w {setting}")
    if not _is_mapped():
        return GuestError(f"{what}, since this user or group has no number here; run it as one that its uid_map has")
    if _is_chroot():
        return GuestError(f"{what}, since this is a chroot; run it outside of it")
    return GuestError(
        f"{what}: not permitted; if this is a container, let it make user namespaces (its seccomp profile forbids that)"
    )


def _is_mapped() -> bool:
    """Whether the user namespace that we are in knows our user and group (EPERM in user_namespaces(7))."""
    for name, number in (("uid_map", os.geteuid()), ("gid_map", os.getegid())):
        with contextlib.suppress(OSError):
            lines = Path("/proc/self", name).read_text().splitlines()
            extents = [[int(word) for word in line.split()] for line in lines]
            if not any(first <= number < first + count for first, _, count in extents):
                return False
    return True


def _is_chroot() -> bool:
    """Whether our root is no mount, as that of a mount namespace is."""
    with contextlib.suppress(OSError):
        return not any(line.split()[4] == "/" for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return False


def _prepare_mounts(plan: GuestPlan, warnings: list[str]) -> None:
    """Mounts of the guest's own, in its own mount namespace."""
    # What the host mounts later is seen here, but nothing that is mounted here is seen there.
    syscalls.mount("none", "/", flags=syscalls.MS_SLAVE | syscalls.MS_REC)
    _mount_sysfs()
    if plan.resolv_conf is not None:
        try:
            _replace_resolv_conf(plan.resolv_conf)
        except FileNotFoundError:
            missing = os.path.realpath(RESOLV_CONF)
            warnings.append(
                f"the guest has no {RESOLV_CONF}, since the host has none to put it in place of, so names may not be "
                f"found; as root: touch {missing}"
            )
        except OSError as error:
            warnings.append(f"the guest's {RESOLV_CONF} cannot be replaced ({error.strerror}): names may not be found")


def _mount_sysfs() -> None:
    """Let /sys/class/net show the guest's interfaces. Some containers do not allow that; hardly anything needs it."""
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        cgroup = os.open("/sys/fs/cgroup", os.O_PATH | os.O_DIRECTORY)
        stack.callback(os.close, cgroup)
        syscalls.mount("sysfs", "/sys", "sysfs", flags)
        syscalls.mount(f"/proc/self/fd/{cgroup}", "/sys/fs/cgroup", flags=syscalls.MS_BIND | syscalls.MS_REC)


def _replace_resolv_conf(text: str) -> None:
    """Put a file of memory in place of the host's, without writing to a disk.

    A tmpfs covers /etc for as long as it takes to make a file in it and bind that; bound, the file keeps it alive. The
    target's descriptor leads to what is covered, and past symbolic links.
    """
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
    with contextlib.ExitStack() as stack:
        target = os.open(RESOLV_CONF, os.O_PATH)
        stack.callback(os.close, target)
        directory = os.path.dirname(RESOLV_CONF)
        syscalls.mount("tmpfs", directory, "tmpfs", flags, "mode=755,size=1m")
        stack.callback(syscalls.unmount, directory, syscalls.MNT_DETACH)
        Path(RESOLV_CONF).write_text(text)
        Path(RESOLV_CONF).chmod(0o644)
        syscalls.mount(RESOLV_CONF, f"/proc/self/fd/{target}", flags=syscalls.MS_BIND)


def _allow_ping() -> None:
    """Let every group of the guest's open ping sockets, as a guest's guest needs them."""
    extents = [[int(word) for word in line.split()] for line in Path("/proc/self/gid_map").read_text().splitlines()]
    last = next((min(count - 1, _MAX_GID) for first, _, count in extents if first == 0), 0)
    _set("ipv4/ping_group_range", f"0 {last}")


def _set(name: str, value: str) -> None:
    """Set a variable of the network namespace, unless it is missing or /proc is read-only: then defaults must do."""
    with contextlib.suppress(OSError):
        Path("/proc/sys/net", name).write_text(value)


def _open_tap(plan: GuestPlan) -> tuple[int, LinkConfig]:
    device = "/dev/net/tun"
    try:
        return open_tap(plan.interface, mtu=plan.mtu, mac=plan.mac)
    except OSError as error:
        match error.errno:
            case errno.ENOENT | errno.ENODEV | errno.ENXIO:
                remedy = "load the module as root (modprobe tun), or give the container the device"
                message = f"{device} is missing; {remedy}"
            case errno.EACCES if os.statvfs(device).f_flag & os.ST_NODEV:
                mount = _mount_point(device)
                message = f"{mount} is mounted so that no device below it works; as root: mount -o remount,dev {mount}"
            case errno.EACCES:
                message = f"no permission to open {device}; as root: chmod 0666 {device}"
            case errno.ENOTTY:
                message = f"{device} is not the device of that name; as root: rm {device}; mknod {device} c 10 200"
            case errno.EPERM if error.filename == device:
                message = f"{device} may not be opened here; let the container have it, as by --device {device}"
            case errno.EPERM:
                raise _not_permitted("an interface cannot be made") from error
            case errno.EMFILE | errno.ENFILE:
                raise
            case _:
                message = f"interface {plan.interface!r} cannot be made with MTU {plan.mtu}: {error.strerror}"
        raise GuestError(message) from error


def _mount_point(path: str) -> str:
    while not os.path.ismount(path):
        path = os.path.dirname(path)
    return path


def _configure(plan: GuestPlan, warnings: list[str]) -> None:
    """Bring up the loopback interface, and the guest's with its addresses and routes."""
    from pyroute2 import IPRoute

    variables = f"ipv6/conf/{plan.interface}"
    if not plan.ipv6:
        _set(f"{variables}/disable_ipv6", "1")
    with IPRoute() as netlink:
        netlink.link("set", index=_LOOPBACK_INDEX, state="up")
        if not plan.configure:
            return
        # Nobody else is on the link, so no address needs a second of detection; and all is known already.
        _set(f"{variables}/accept_dad", "0")
        _set(f"{variables}/accept_ra", "0")
        index = socket.if_nametoindex(plan.interface)
        netlink.link("set", index=index, state="up")
        for own in plan.addresses:
            _add_address(netlink, index, own)
        for route in _add_routes(netlink, index, plan.routes):
            destination = f"{addresses.format(route.destination)}/{route.prefix_length}"
            warnings.append(f"the route to {destination} could not be copied to the guest")


def _add_address(netlink: IPRoute, index: int, own: InterfaceAddress) -> None:
    from pyroute2.netlink.exceptions import NetlinkError

    text = addresses.format(own.address)
    flags = {"flags": _IFA_F_NODAD} if len(own.address) == 16 else {}
    try:
        netlink.addr("add", index=index, address=text, prefixlen=own.prefix_length, **flags)
    except NetlinkError as error:
        reason = os.strerror(error.code)
        raise GuestError(f"the guest cannot have the address {text}/{own.prefix_length}: {reason}") from error


def _add_routes(netlink: IPRoute, index: int, routes: Sequence[Route]) -> list[Route]:
    """Add routes, in whatever order they depend on each other; those that could not be added are returned."""
    from pyroute2.netlink.exceptions import NetlinkError

    left = sorted(routes, key=lambda route: route.gateway is not None)
    while True:
        failed = []
        for route in left:
            try:
                netlink.route("add", oif=index, **_route_message(route))
            except NetlinkError as error:
                if error.code != errno.EEXIST:  # adding an address added the route to its network
                    failed.append(route)
        if len(failed) in (0, len(left)):
            return failed
        left = failed


def _route_message(route: Route) -> dict[str, Any]:
    message: dict[str, Any] = {
        "family": socket.AF_INET if len(route.destination) == 4 else socket.AF_INET6,
        "dst": addresses.format(route.destination),
        "dst_len": route.prefix_length,
    }
    if route.metric:
        message["priority"] = route.metric
    if route.gateway is not None:
        message["gateway"] = addresses.format(route.gateway)
        if route.on_link:
            message["flags"] = _RTNH_F_ONLINK
    elif len(route.destination) == 4:
        message["scope"] = _RT_SCOPE_LINK
    return message


def _execute(command: Sequence[str]) -> NoReturn:
    """Become the command, with descriptors 0 to 2 and nothing else."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):  # one of them was of the list itself
                os.set_inheritable(int(name), False)
    program = command[0]
    try:
        if not program:
            raise FileNotFoundError
        os.execvp(program, list(command))
    except (FileNotFoundError, NotADirectoryError) as error:
        if os.path.exists(program):
            message = f"{program}: the interpreter that its first line names does not exist"
        else:
            place = " and PATH" if "/" not in program else ""
            message = f"{program or repr(program)}: command not found; check the name{place}"
        raise CommandNotFound(message) from error
    except OSError as error:
        raise CommandNotExecutable(f"{program} cannot be executed: {_why_not_executed(program, error)}") from error


def _why_not_executed(program: str, error: OSError) -> str:
    if os.path.isdir(program):
        return "it is a directory; give a program"
    match error.errno:
        case errno.EACCES:
            return "no permission; make it executable (chmod +x)"
        case errno.ENOEXEC:
            return "it is no program for this machine; a script names its interpreter in its first line, as #!/bin/sh"
        case _:
            return str(error.strerror)
