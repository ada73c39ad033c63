"""`sansnet qemu` with trio: a virtual machine with its network, from the start of QEMU to its end.

Theory of operation. QEMU is a child of sansnet, in its process group and with its terminal; sansnet serves it until it
ends. They connect by a UNIX socket in a private directory. It has a path, rather than being one of a socketpair,
because QEMU connects again: when a boot loader's driver accepted fewer features than the system's, and after a broken
connection. sansnet listens before QEMU starts, and QEMU waits for the first answer, so the order does not matter.

If sansnet is killed, QEMU gets SIGTERM (PR_SET_PDEATHSIG).
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
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

import trio

from sansnet_cli.options.records import QemuOptions
from sansnet_cli.output import report
from sansnet_cli.process import readiness
from sansnet_cli.runtime.control import controlled
from sansnet_cli.runtime.observe import captured
from sansnet_cli.runtime.ports import open_forwards
from sansnet_cli.runtime.session import Session
from sansnet_cli.runtime.signals import CommandSignals
from sansnet_cli.serve.serve import MachineServer, check_link
from sansnet_trio.guest.errors import CommandNotExecutable, CommandNotFound
from sansnet_trio.guest.execute import is_found
from sansnet_trio.hostinfo import HostError
from sansnet_trio.links import LinkClosed, unix_stream
from sansnet_trio.links.machine_listener import MachineListener
from sansnet_trio.linux import syscalls
from sansnet_trio.linux.privileges import CAP_KILL
from sansnet_trio.plan import qemu_arguments
from sansnet_trio.plan.setup import Setup

__all__ = ["serve"]

_KVM: Final = "/dev/kvm"

_VERSION_TIMEOUT: Final = 10.0
"""Seconds that QEMU may take to print its version."""

_END_TIMEOUT: Final = 5.0
"""Seconds that QEMU may take to end after SIGTERM, and again after SIGKILL."""

_END_DELAY: Final = 0.5
"""Seconds between the end of a connection and the end of QEMU, at most, if QEMU ended."""


def serve(options: QemuOptions, setup: Setup, capture: BinaryIO | None) -> int:
    """Run a machine until it ends.

    Args:
        options: the options of `sansnet qemu`.
        setup: the setup of the machine's network.
        capture: an open file for a capture.

    Returns:
        QEMU's exit status, or the negative number of the signal that ended it.

    Raises:
        CommandNotFound, CommandNotExecutable: there is no such QEMU.
        HostError: QEMU is too old, or this host cannot serve such a link.
        OptionsError: QEMU's arguments cannot work.
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
            open_forwards(options, setup, control) as forwards,
            closing(MachineListener(path)) as listener,
            closing(CommandSignals()) as signals,
            _started([program, *arguments], signals, limits) as machine,
        ):
            readiness.prepare()
            readiness.renounce(options.ports, controlled=control.is_on, keep=_needed(options))
            session = Session(options, setup, control, forwards)
            return trio.run(_serve, session, MachineServer(session, options, file), listener, machine, signals)


def _needed(options: QemuOptions) -> tuple[int, ...]:
    """Capabilities without which sansnet could not send signals to QEMU."""
    return (CAP_KILL,) if qemu_arguments.changes_user(options.arguments) else ()


async def _serve(
    session: Session,
    server: MachineServer,
    listener: MachineListener,
    machine: subprocess.Popen[bytes],
    signals: CommandSignals,
) -> int:
    """Serve the machine until QEMU ends, and return QEMU's status."""
    async with session.running() as nursery:
        nursery.start_soon(signals.run, machine)
        nursery.start_soon(listener.run, partial(_serve_connection, server))
        status = await _wait(machine)
    if status < 0:
        report.warn(f"signal {-status} ended QEMU ({signal.strsignal(-status)})")
    return status


async def _wait(machine: subprocess.Popen[bytes]) -> int:
    pidfd = os.pidfd_open(machine.pid)
    try:
        await trio.lowlevel.wait_readable(pidfd)
    finally:
        os.close(pidfd)
    return machine.wait()


async def _serve_connection(server: MachineServer, connection: socket.socket) -> None:
    try:
        await server.serve(connection)
    except (LinkClosed, OSError) as error:
        await trio.sleep(_END_DELAY)  # if QEMU has just ended, there is nothing to report
        report.warn(f"the machine has lost its network until QEMU connects again: {error}")


def _version(program: str) -> qemu_arguments.Version:
    """Get the version of QEMU.

    Raises:
        CommandNotFound, CommandNotExecutable: QEMU cannot be run.
        HostError: it is not QEMU, or too old.
    """
    try:
        output = subprocess.run(
            [program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_VERSION_TIMEOUT, check=False
        ).stdout.decode(errors="replace")
    except subprocess.TimeoutExpired:
        output = ""
    except OSError as error:
        if is_found(program):
            raise CommandNotExecutable(
                f"{program} cannot be executed ({error.strerror}); give another QEMU by --qemu PROGRAM"
            ) from error
        oldest = ".".join(map(str, qemu_arguments.OLDEST))
        raise CommandNotFound(
            f"{program}: command not found; install QEMU {oldest} or newer, or give its path by --qemu PROGRAM"
        ) from error
    version = qemu_arguments.read_version(output)
    if version is None:
        raise HostError(f"{program} --version does not print a version of QEMU; give another program by --qemu")
    if version < qemu_arguments.OLDEST:
        found, oldest = (".".join(map(str, numbers)) for numbers in (version, qemu_arguments.OLDEST))
        raise HostError(f"{program} is QEMU {found}, but the oldest that works is {oldest}; give a newer one by --qemu")
    return version


def _directory() -> tempfile.TemporaryDirectory[str]:
    """A private directory for the socket. A failure to remove it must not change the exit status, which is QEMU's."""
    try:
        return tempfile.TemporaryDirectory(prefix="sansnet-", ignore_cleanup_errors=True)
    except OSError as error:
        raise HostError("no directory for temporary files is writable; set TMPDIR to one that is") from error


@contextmanager
def _started(
    command: Sequence[str], signals: CommandSignals, limits: tuple[int, int]
) -> Iterator[subprocess.Popen[bytes]]:
    """Start QEMU with these limits on descriptors; end it at the end of the block, if it still runs."""
    parent = os.getpid()

    def prepare() -> None:
        signals.close()  # in the child, which receives the signals itself
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        syscalls.set_parent_death_signal(signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    machine = subprocess.Popen(command, preexec_fn=prepare)
    try:
        yield machine
    finally:
        for number in (signal.SIGTERM, signal.SIGCONT):  # a stopped process handles SIGTERM only after SIGCONT
            machine.send_signal(number)
        try:
            machine.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            machine.kill()
            with suppress(subprocess.TimeoutExpired):
                machine.wait(_END_TIMEOUT)
