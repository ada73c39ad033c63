"""A virtual machine with its own network, as an async context manager.

Theory of operation. QEMU connects to a UNIX socket in a private directory. It may connect again, for example when the
system's driver follows a boot loader's; each connection gets a network of its own. We listen before QEMU starts, and
QEMU waits for the first answer.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from sansnet_trio.front.process import GuestProcess, words_of
from sansnet_trio.front.setup import network_of, open_ports, warn
from sansnet_trio.front.stdio import Stdio, Stream
from sansnet_trio.groups import combined, raise_alone
from sansnet_trio.guest.errors import CommandNotExecutable, CommandNotFound, GuestError
from sansnet_trio.guest.execute import Program, is_found
from sansnet_trio.guest.program import ChildProgram
from sansnet_trio.hostinfo import HostError
from sansnet_trio.links import LinkClosed, unix_stream, vhost_user
from sansnet_trio.links.machine_listener import MachineListener
from sansnet_trio.linux.rtnetlink import load_alone
from sansnet_trio.plan import qemu_arguments
from sansnet_trio.plan.host import read_host_for
from sansnet_trio.plan.options import NetworkOptions
from sansnet_trio.plan.setup import Setup, make_setup

if TYPE_CHECKING:
    from sansnet_core.ports import ForwardRule
    from sansnet_trio.decisions import Decider
    from sansnet_trio.forward.forwards import Forwards
    from sansnet_trio.links.observed import CaptureFile
    from sansnet_trio.network import GuestNetwork
    from sansnet_trio.services.services import Services

__all__ = ["Machine", "open_machine", "read_qemu_version"]

_LIKE_HOST: Final = NetworkOptions()

_KVM: Final = "/dev/kvm"

_VERSION_TIMEOUT: Final = 10.0
"""Seconds that QEMU may take to print its version."""


class Machine(GuestProcess):
    """A virtual machine with a network. Made by `open_machine`; see also `GuestProcess`.

    Attributes:
        setup: the setup of its network.
    """

    def __init__(self, child: ChildProgram, args: Sequence[str], stdio: Stdio, setup: Setup) -> None:
        super().__init__(child, args, stdio)
        self.setup = setup
        self._network: GuestNetwork | None = None
        self._connected = trio.Event()

    @property
    def network(self) -> GuestNetwork | None:
        """The network of its card; None while QEMU is not connected, or no driver has started the card."""
        return self._network

    async def wait_network(self) -> GuestNetwork:
        """Wait until there is a `network`.

        Raises:
            LinkClosed: QEMU has ended.
        """
        while self._network is None:
            if self._ended.is_set():
                raise LinkClosed(f"QEMU has ended with status {self.returncode}, so there is no network")
            await self._connected.wait()
        return self._network

    async def watch(self) -> None:
        """See `GuestProcess.watch`."""
        await super().watch()
        self._connected.set()

    def set_network(self, network: GuestNetwork | None) -> None:
        """Called by `open_machine`."""
        self._network = network
        if network is None:
            self._connected = trio.Event()
        else:
            self._connected.set()


@asynccontextmanager
async def open_machine(
    command: Sequence[str | os.PathLike[str]],
    options: NetworkOptions = _LIKE_HOST,
    *,
    use_vhost_user: bool | None = None,
    services: Services | None = None,
    decide: Decider | None = None,
    capture: CaptureFile | None = None,
    forwards: Iterable[ForwardRule] = (),
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
) -> AsyncIterator[Machine]:
    """Run QEMU with a network card that this program serves; an async context manager.

    The block begins when QEMU runs. At its end, also if it was cancelled, a QEMU that still runs is ended, with SIGTERM
    and after 5 s SIGKILL. The machine configures itself by DHCP, DHCPv6 and router advertisements.

    Args:
        command: QEMU, looked up in PATH, and its arguments without a network card; those for the card are added.
        options: the options of the machine's network; see `open_guest`.
        use_vhost_user: whether the link is vhost-user, which is fastest and needs x86-64, or QEMU's stream socket; None
            chooses.
        services: see `open_network`.
        decide: see `open_network`.
        capture: see `open_network`.
        forwards: see `open_guest`.
        env: see `open_guest`.
        cwd: see `open_guest`.
        stdin: see `open_guest`.
        stdout: see `open_guest`.
        stderr: see `open_guest`.

    Raises:
        CommandNotFound: there is no such program.
        CommandNotExecutable: the file cannot be executed.
        HostError: QEMU is too old, this host cannot serve such a link, or the options do not fit the host.
        OptionsError: QEMU's arguments cannot work, or the options do not fit each other.
        ForwardError: a port cannot be bound.
    """
    program, *arguments = words_of(command)
    if use_vhost_user is None:
        use_vhost_user = vhost_user.is_supported()
    elif use_vhost_user and not vhost_user.is_supported():
        raise HostError("vhost-user works on x86-64 only; leave it out")
    qemu_arguments.check_arguments(arguments, vhost_user=use_vhost_user)
    version = await read_qemu_version(program)
    load_alone()
    setup = make_setup(options, read_host_for(options))
    warn(*setup.warnings)
    with ExitStack() as stack:
        directory = stack.enter_context(_directory())
        path = str(Path(directory, "socket"))
        mtu = options.mtu or (None if use_vhost_user else unix_stream.MTU.default)
        kvm = os.access(_KVM, os.R_OK | os.W_OK)
        words = [
            program,
            *qemu_arguments.machine_arguments(
                arguments, version, path, vhost_user=use_vhost_user, mtu=mtu, has_kvm=kvm
            ),
        ]
        ports = open_ports(forwards, setup)
        if ports is not None:
            stack.enter_context(ports)
        listener = stack.enter_context(closing(MachineListener(path)))
        stdio = Stdio(stdin, stdout, stderr)
        stack.callback(stdio.close)
        start = Program(words, env, None if cwd is None else os.fspath(cwd), stdio.streams)
        child = stack.enter_context(await ChildProgram.begin(start))
        stdio.begun()
        machine = Machine(child, words, stdio, setup)
        server = _Server(machine, options.mtu, ports, services, decide, capture, vhost_user=use_vhost_user)
        failure: BaseException | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(machine.watch)
                nursery.start_soon(listener.run, server.serve)
                try:
                    yield machine
                except BaseException as error:
                    failure = error
                finally:
                    with trio.CancelScope(shield=True):
                        await machine.end_command()
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            failure = combined(failure, group)
        if failure is not None:
            raise_alone(failure)


class _Server:
    """Gives each connection of a machine a network."""

    def __init__(
        self,
        machine: Machine,
        mtu: int | None,
        forwards: Forwards | None,
        services: Services | None,
        decide: Decider | None,
        capture: CaptureFile | None,
        *,
        vhost_user: bool,
    ) -> None:
        self._machine = machine
        self._mtu = mtu
        self._forwards = forwards
        self._services = services
        self._decide = decide
        self._capture = capture
        self._vhost_user = vhost_user

    async def serve(self, connection: socket.socket) -> None:
        """Serve one connection until it is closed."""
        link: unix_stream.UnixStream | vhost_user.VhostUserLink
        if self._vhost_user:
            link = vhost_user.VhostUserLink(connection, mtu=self._mtu)
        else:
            link = unix_stream.UnixStream(connection, mtu=self._mtu or unix_stream.MTU.default)
        with closing(link):
            try:
                await self._serve(link)
            except LinkClosed:
                pass  # QEMU connects again, or ends
            except OSError as error:
                warn(f"the machine has lost its network until QEMU connects again: {error}")

    async def _serve(self, link: unix_stream.UnixStream | vhost_user.VhostUserLink) -> None:
        if isinstance(link, vhost_user.VhostUserLink):
            await link.wait_started()
        async with network_of(
            link,
            self._machine.setup,
            services=self._services,
            decide=self._decide,
            capture=self._capture,
            forwards=self._forwards,
        ) as network:
            self._machine.set_network(network)
            try:
                await network.wait_closed()
            finally:
                self._machine.set_network(None)


def _directory() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="sansnet-", ignore_cleanup_errors=True)
    except OSError as error:
        raise HostError("no directory for temporary files is writable; set TMPDIR to one that is") from error


async def read_qemu_version(program: str) -> qemu_arguments.Version:
    """Get the version of QEMU.

    Args:
        program: QEMU, looked up in PATH.

    Raises:
        CommandNotFound, CommandNotExecutable: it cannot be run.
        HostError: it is not QEMU, or too old.
    """
    output = b""
    try:
        with trio.move_on_after(_VERSION_TIMEOUT):
            done = await trio.run_process(
                [program, "--version"], capture_stdout=True, stderr=subprocess.DEVNULL, check=False
            )
            output = done.stdout
    except OSError as error:
        raise _missing(program, error) from error
    version = qemu_arguments.read_version(output.decode(errors="replace"))
    if version is None:
        raise HostError(f"{program} --version does not print a version of QEMU; give another program")
    if version < qemu_arguments.OLDEST:
        found, oldest = (".".join(map(str, numbers)) for numbers in (version, qemu_arguments.OLDEST))
        raise HostError(f"{program} is QEMU {found}, but the oldest that works is {oldest}; give a newer one")
    return version


def _missing(program: str, error: OSError) -> GuestError:
    if is_found(program):
        return CommandNotExecutable(f"{program} cannot be executed ({error.strerror}); give another QEMU")
    oldest = ".".join(map(str, qemu_arguments.OLDEST))
    return CommandNotFound(f"{program}: command not found; install QEMU {oldest} or newer, or give its path")
