"""A QEMU with a network card of ours, from its start to its end; `open_machine` and `sansnet qemu` are made of it.

Theory of operation. QEMU connects to a UNIX socket in a private directory. It has a path, rather than being one of a
socketpair, because QEMU connects again: when the system's driver follows a boot loader's, and after a broken
connection. Each connection gets a network of its own. We listen before QEMU starts, and QEMU waits for the first
answer, so the order does not matter.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import trio

from sansnet_trio.front.process import GuestProcess
from sansnet_trio.front.setup import warn
from sansnet_trio.front.stdio import Stdio
from sansnet_trio.groups import combined, raise_alone
from sansnet_trio.guest.errors import CommandNotExecutable, CommandNotFound
from sansnet_trio.guest.execute import Program, is_found
from sansnet_trio.guest.program import ChildProgram
from sansnet_trio.hostinfo import HostError
from sansnet_trio.links import LinkClosed, unix_stream, vhost_user
from sansnet_trio.links.machine_link import MachineLink, machine_link
from sansnet_trio.links.machine_listener import MachineListener
from sansnet_trio.linux.own_names import temporary_directory
from sansnet_trio.network import GuestNetwork
from sansnet_trio.plan import qemu_arguments
from sansnet_trio.plan.setup import Setup
from sansnet_trio.recording.failures import NetworkFailed
from sansnet_trio.words import word

__all__ = ["Machine", "Qemu", "run_machine"]

OpenNetwork: TypeAlias = Callable[[MachineLink], AbstractAsyncContextManager[GuestNetwork]]
"""Opens the network for one connection of a machine."""

_KVM: Final = "/dev/kvm"

_VERSION_TIMEOUT: Final = 10.0
"""Seconds that QEMU may take to print its version."""

_VERSION_SIZE: Final = 4096
"""Bytes of its output that are read, at most."""

_END_DELAY: Final = 0.5
"""Seconds between the end of a connection and the end of QEMU, at most, if QEMU ended."""


class Qemu(NamedTuple):
    """A QEMU that exists, and arguments that can work; made by `find`.

    Attributes:
        program: its name or path.
        arguments: the user's arguments.
        version: its version.
        use_vhost_user: whether its link is vhost-user; otherwise it is a stream socket.
    """

    program: str
    arguments: tuple[str, ...]
    version: qemu_arguments.Version
    use_vhost_user: bool

    @classmethod
    async def find(cls, program: str, arguments: Sequence[str], *, use_vhost_user: bool) -> Qemu:
        """Check QEMU and its arguments.

        Args:
            program: its name or path.
            arguments: the user's arguments.
            use_vhost_user: whether its link is vhost-user.

        Raises:
            CommandNotFound, CommandNotExecutable: there is no such QEMU.
            HostError: QEMU is too old, or this host cannot serve such a link.
            OptionsError: the arguments cannot work.
        """
        if use_vhost_user and not vhost_user.is_supported():
            raise HostError(f"vhost-user works on x86-64 only; give {word('use_vhost_user=False')}")
        qemu_arguments.check_arguments(arguments, vhost_user=use_vhost_user)
        return cls(program, tuple(arguments), await _read_version(program), use_vhost_user)

    def command(self, path: str, mtu: int | None) -> list[str]:
        """The command of a QEMU whose card is connected to a socket.

        Args:
            path: the path of the socket.
            mtu: the MTU of the card, in bytes; None is the default of the link.

        Raises:
            OptionsError: the size of the machine's memory cannot be parsed.
        """
        arguments = qemu_arguments.machine_arguments(
            self.arguments,
            self.version,
            path,
            vhost_user=self.use_vhost_user,
            mtu=mtu if self.use_vhost_user else mtu or unix_stream.MTU.default,
            has_kvm=os.access(_KVM, os.R_OK | os.W_OK),
        )
        return [self.program, *arguments]


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

    async def serve(self, network: GuestNetwork) -> None:
        """Called by `run_machine`: this is its network until this is cancelled."""
        self._network = network
        self._connected.set()
        try:
            await trio.sleep_forever()
        finally:
            self._network = None
            self._connected = trio.Event()


@asynccontextmanager
async def run_machine(
    qemu: Qemu,
    setup: Setup,
    open_network: OpenNetwork,
    *,
    mtu: int | None = None,
    allow_unsealed: bool = False,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    stdio: Stdio,
) -> AsyncIterator[Machine]:
    """Run QEMU, and give each of its connections a network; an async context manager, see `open_machine`.

    QEMU gets the signal mask and the limits that this process has when it enters the block.

    Args:
        qemu: the QEMU.
        setup: the setup of the machine's network.
        open_network: opens the network for one connection.
        mtu: the MTU of its card, in bytes; None is the default of the link.
        allow_unsealed: see `VhostUserLink`.
        env: see `open_guest`.
        cwd: see `open_guest`.
        stdio: QEMU's standard streams.

    Raises:
        CommandNotFound, CommandNotExecutable: QEMU cannot be executed.
        GuestError: its working directory cannot be entered.
        HostError: there is no directory for the socket.
        OptionsError: the size of the machine's memory cannot be parsed.
    """
    with ExitStack() as stack:
        path = str(Path(_directory(stack), "socket"))
        words = qemu.command(path, mtu)
        listener = stack.enter_context(closing(MachineListener(path)))
        child = stack.enter_context(await ChildProgram.begin(Program(words, env, cwd, stdio.streams)))
        stdio.begun()
        machine = Machine(child, words, stdio, setup)

        async def serve(connection: socket.socket) -> None:
            try:
                async with (
                    machine_link(
                        connection, use_vhost_user=qemu.use_vhost_user, mtu=mtu, allow_unsealed=allow_unsealed
                    ) as link,
                    open_network(link) as network,
                ):
                    await machine.serve(network)
            except (LinkClosed, NetworkFailed, OSError) as error:
                await trio.sleep(_END_DELAY)  # if QEMU has just ended, there is nothing to report
                warn(f"the machine has lost its network until QEMU connects again: {error}")

        failure: BaseException | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(machine.watch)
                nursery.start_soon(listener.run, serve)
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


def _directory(stack: ExitStack) -> str:
    """A private directory for the socket."""
    try:
        return stack.enter_context(temporary_directory())
    except OSError as error:
        raise HostError("no directory for temporary files is writable; set TMPDIR to one that is") from error


async def _read_version(program: str) -> qemu_arguments.Version:
    """Get the version of QEMU.

    Raises:
        CommandNotFound, CommandNotExecutable: it cannot be run.
        HostError: it is not QEMU, or too old.
    """
    output = b""
    stdio = Stdio(subprocess.DEVNULL, subprocess.PIPE, subprocess.DEVNULL)
    with closing(stdio), trio.move_on_after(_VERSION_TIMEOUT):
        try:
            child = await ChildProgram.begin(Program([program, "--version"], streams=stdio.streams))
        except CommandNotFound as error:
            if is_found(program):
                raise
            oldest = ".".join(map(str, qemu_arguments.OLDEST))
            remedy = f"install QEMU {oldest} or newer, or give its path {word('as command[0]')}"
            raise CommandNotFound(f"{program}: command not found; {remedy}") from error
        except CommandNotExecutable as error:
            raise CommandNotExecutable(f"{error}, or give another QEMU {word('as command[0]')}") from error
        stdio.begun()
        assert stdio.stdout is not None
        with child:
            async for part in stdio.stdout:
                output = (output + part)[:_VERSION_SIZE]
    version = qemu_arguments.read_version(output.decode(errors="replace"))
    if version is None:
        problem = f"{program} --version does not print a version of QEMU"
        raise HostError(f"{problem}; give another program {word('as command[0]')}")
    if version < qemu_arguments.OLDEST:
        found, oldest = (".".join(map(str, numbers)) for numbers in (version, qemu_arguments.OLDEST))
        problem = f"{program} is QEMU {found}, but the oldest that works is {oldest}"
        raise HostError(f"{problem}; give a newer one {word('as command[0]')}")
    return version
