"""`sansnet qemu`: a virtual machine with its network, from start to end.

Theory of operation. QEMU is our child, in our process group and with our terminal; sansnet serves it until it ends. The
two meet at a socket in a directory of our own, which nobody else may enter. A socket with a path, and not a pair of
connected ones, since QEMU connects to it again: when a boot loader's driver accepted less than the system's, and when
a connection was given up. We listen before QEMU starts, and it waits for our first answer, so neither can miss the
other.

QEMU is to end in good order if we are killed: it has SIGTERM then.
"""

from __future__ import annotations

import os
import resource
import shlex
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

import trio

from sansnet_cli.options.ports import open_forwards
from sansnet_cli.options.records import QemuOptions
from sansnet_cli.output import report
from sansnet_cli.process import readiness
from sansnet_cli.runtime.control import Control, controlled
from sansnet_cli.runtime.observe import captured
from sansnet_cli.runtime.signals import CommandSignals
from sansnet_cli.serve.serve import GuestServer, check_link
from sansnet_trio.guest.errors import CommandNotExecutable, CommandNotFound
from sansnet_trio.guest.execute import is_found
from sansnet_trio.hostinfo import HostError
from sansnet_trio.links import LinkClosed, unix_stream
from sansnet_trio.links.machine_listener import MachineListener
from sansnet_trio.linux import syscalls
from sansnet_trio.linux.privileges import CAP_KILL
from sansnet_trio.plan import qemu_arguments
from sansnet_trio.plan.setup import Setup

__all__ = ["boot"]

_KVM: Final = "/dev/kvm"

_PATIENCE: Final = 10.0
"""Seconds that QEMU may take to say its version."""

_PARTING: Final = 5.0
"""Seconds that QEMU may take to end, once asked to and once forced to."""

_MOMENT: Final = 0.5
"""Seconds between the end of a connection and that of QEMU, if the one means the other."""


def boot(options: QemuOptions, setup: Setup, capture: BinaryIO | None) -> int:
    """Run a machine until it ends.

    Returns:
        QEMU's exit status, or the negative number of the signal that ended it.

    Raises:
        CommandNotFound, CommandNotExecutable: there is no such QEMU.
        HostError: it is too old, or this host cannot serve such a link.
        CommandLineError: its arguments cannot work.
        ListenError: no socket can be made.
        ForwardError: a port cannot be forwarded.
    """
    check_link(options)
    qemu_arguments.check_arguments(options.arguments, vhost_user=options.vhost_user)
    program = options.program or qemu_arguments.program_for()
    version = _version(program)
    with _directory() as directory:
        path = str(Path(directory, "socket"))
        mtu = options.mtu if options.vhost_user else options.mtu or unix_stream.MTU.default
        arguments = qemu_arguments.machine_arguments(
            options.arguments,
            version,
            path,
            vhost_user=options.vhost_user,
            mtu=mtu,
            has_kvm=os.access(_KVM, os.R_OK | os.W_OK),
        )
        for warning in setup.warnings:
            report.warn(warning)
        if options.verbose:
            report.inform(f"starting {shlex.join([program, *arguments])}")
        limits = readiness.allow_many_descriptors()
        with (
            controlled(options.control) as control,
            captured(capture) as file,
            open_forwards(options.ports, setup.config, later=control.is_on, verbose=options.verbose) as forwards,
            closing(MachineListener(path)) as listener,
            closing(CommandSignals()) as signals,
            _started([program, *arguments], signals, limits) as machine,
        ):
            readiness.prepare()
            readiness.renounce(options.ports, controlled=control.is_on, keep=_needed(options))
            supervisor = _Supervisor(machine, GuestServer(options, setup, file, control, forwards))
            return trio.run(supervisor.run, listener, signals, control)


def _needed(options: QemuOptions) -> tuple[int, ...]:
    """Capabilities without which QEMU could not be ended."""
    return (CAP_KILL,) if qemu_arguments.changes_user(options.arguments) else ()


class _Supervisor:
    def __init__(self, machine: subprocess.Popen[bytes], server: GuestServer) -> None:
        self._machine = machine
        self._server = server

    async def run(self, listener: MachineListener, signals: CommandSignals, control: Control) -> int:
        """Serve the machine until QEMU ends, and return its status."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(signals.run, self._machine)
            nursery.start_soon(listener.run, self._serve)
            nursery.start_soon(control.run)
            nursery.start_soon(self._server.follow)
            status = await self._wait()
            nursery.cancel_scope.cancel()
        if status < 0:
            report.warn(f"QEMU was ended by signal {-status} ({signal.strsignal(-status)})")
        return status

    async def _wait(self) -> int:
        pidfd = os.pidfd_open(self._machine.pid)
        try:
            await trio.lowlevel.wait_readable(pidfd)
        finally:
            os.close(pidfd)
        return self._machine.wait()

    async def _serve(self, connection: socket.socket) -> None:
        try:
            await self._server.serve(connection)
        except (LinkClosed, OSError) as error:
            await trio.sleep(_MOMENT)  # QEMU may just have ended, which needs no word
            report.warn(f"the machine has lost its network, and gets it anew when QEMU connects again: {error}")


def _version(program: str) -> qemu_arguments.Version:
    """Ask QEMU for its version, and refuse one that is too old."""
    try:
        said = subprocess.run(
            [program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=False
        ).stdout.decode(errors="replace")
    except subprocess.TimeoutExpired:
        said = ""
    except OSError as error:
        if is_found(program):
            raise CommandNotExecutable(
                f"{program} cannot be executed ({error.strerror}); name another QEMU with --qemu PROGRAM"
            ) from error
        oldest = ".".join(map(str, qemu_arguments.OLDEST))
        raise CommandNotFound(
            f"{program}: command not found; install QEMU {oldest} or newer, or name it with --qemu PROGRAM"
        ) from error
    version = qemu_arguments.read_version(said)
    if version is None:
        raise HostError(f"{program} does not say that it is QEMU when asked for its --version; name one with --qemu")
    if version < qemu_arguments.OLDEST:
        is_old, wanted = (".".join(map(str, numbers)) for numbers in (version, qemu_arguments.OLDEST))
        raise HostError(f"{program} is QEMU {is_old}, and {wanted} is the oldest that works; name a newer with --qemu")
    return version


def _directory() -> tempfile.TemporaryDirectory[str]:
    """A private directory for the socket. To clean up must not change the status: that is QEMU's."""
    try:
        return tempfile.TemporaryDirectory(prefix="sansnet-", ignore_cleanup_errors=True)
    except OSError as error:
        raise HostError("no directory for temporary files can be written; name one in TMPDIR") from error


@contextmanager
def _started(
    command: Sequence[str], signals: CommandSignals, limits: tuple[int, int]
) -> Iterator[subprocess.Popen[bytes]]:
    """QEMU, which runs with these limits of descriptors; if it still does at the end, it is ended."""
    parent = os.getpid()

    def prepare() -> None:
        signals.close()  # in the child, which is to have those that we take
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        syscalls.set_parent_death_signal(signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    machine = subprocess.Popen(command, preexec_fn=prepare)
    try:
        yield machine
    finally:
        for number in (signal.SIGTERM, signal.SIGCONT):  # one that is stopped must go on to hear the other one
            machine.send_signal(number)
        try:
            machine.wait(_PARTING)
        except subprocess.TimeoutExpired:
            machine.kill()
            with suppress(subprocess.TimeoutExpired):
                machine.wait(_PARTING)
