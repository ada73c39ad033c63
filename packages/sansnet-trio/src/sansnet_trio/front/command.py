"""A command in its own namespaces and with its own network, as an async context manager.

Theory of operation. `CommandGuest` makes the namespaces; a task waits for the end of the command, so that any number of
tasks can ask for its status. At the end of the block a command that still runs is ended, then the processes that it
left; the network is served meanwhile, so that programs can finish their connections.
"""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from sansnet_core import UsageError
from sansnet_core.records import replace
from sansnet_trio.front.ending import LastData
from sansnet_trio.front.process import GuestProcess, words_of
from sansnet_trio.front.setup import network_of, open_ports, warn
from sansnet_trio.front.stdio import Stdio, Stream
from sansnet_trio.guest.command import CommandGuest
from sansnet_trio.guest.errors import GuestError
from sansnet_trio.links.tap import Tap
from sansnet_trio.plan.host import read_host_for
from sansnet_trio.plan.options import NamespaceOptions
from sansnet_trio.plan.setup import Setup, make_plan

if TYPE_CHECKING:
    from sansnet_core.ports import ForwardRule
    from sansnet_trio.decisions import Decider
    from sansnet_trio.guest.plan import GuestPlan
    from sansnet_trio.links.observed import CaptureFile
    from sansnet_trio.network import GuestNetwork
    from sansnet_trio.recording.file import RecordingFile
    from sansnet_trio.services.services import Services

__all__ = ["Guest", "open_guest", "run_guest"]

_log: Final = logging.getLogger("sansnet")

_SHIELDED: Final = 0.5
"""Seconds for the last data of a command, also if the block was cancelled."""
_LIKE_HOST: Final = NamespaceOptions()


class Guest(GuestProcess):
    """A command with a network of its own. Made by `open_guest`; see also `GuestProcess`.

    Attributes:
        network: its network.
        setup: the setup of its network: its addresses, name servers, and so on.
    """

    def __init__(
        self, network: GuestNetwork, command: CommandGuest[Setup], args: Sequence[str], stdio: Stdio, setup: Setup
    ) -> None:
        super().__init__(command, args, stdio)
        self.network = network
        self.setup = setup
        self._command = command
        self._ending = False

    async def end(self) -> None:
        """Called at the end of the block: end the command and its background processes, also if this is cancelled.

        A second call does nothing. Unless a signal had to end the command here, this waits until the guest's kernel has
        sent its last data and the host has taken them, or until there is no progress for 10 s.
        """
        ended = self.returncode is not None
        with trio.CancelScope(shield=True):
            await self.end_command()
            ended = ended or (self.returncode or 0) >= 0  # the end of its output comes a moment before its status
            if self._ending:
                return
            self._ending = True
            last = LastData(self.network)
            try:
                await self._command.end_remaining()
            except OSError as error:
                _log.warning("the command has ended, but its background processes may still run: %s", error.strerror)
        with trio.move_on_after(_SHIELDED, shield=True) as shielded:
            await last.wait(briefly=not ended)
        try:
            if shielded.cancelled_caught:
                await last.wait(briefly=not ended)
        finally:
            if ended and (loss := last.loss()):
                _log.warning("%s", loss)


@asynccontextmanager
async def open_guest(
    command: Sequence[str | os.PathLike[str]],
    options: NamespaceOptions = _LIKE_HOST,
    *,
    services: Services | None = None,
    decide: Decider | None = None,
    capture: CaptureFile | None = None,
    record: str | os.PathLike[str] | RecordingFile | None = None,
    forwards: Iterable[ForwardRule] = (),
    root: bool = False,
    host_processes: bool = False,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
) -> AsyncIterator[Guest]:
    """Run a command in its own namespaces, with a network that this program serves; an async context manager.

    The block begins when the command runs. At its end, also if it was cancelled, a command that still runs is ended,
    with SIGTERM and after 5 s SIGKILL, and so are the processes that it left in the background.

    The guest is like the host: it has the host's addresses, routes and name servers, unless the options give others.
    `NamespaceOptions.made_up` gives addresses that do not depend on the host.

    Args:
        command: the program, looked up in PATH, and its arguments.
        options: the options of the guest's network; without them it is like the host's.
        services: see `open_network`.
        decide: see `open_network`.
        capture: see `open_network`.
        record: see `open_network`.
        forwards: the forwarded ports, for example from `sansnet_core.ports.parse_all`.
        root: whether the command is root in the guest's network, which `ip` and `nft` need; otherwise it keeps the user
            of this process.
        host_processes: whether the command shares the PID and IPC namespaces of this process, and so may see and signal
            processes of the host. By default it has its own.
        env: the command's environment; None is that of this process.
        cwd: the command's working directory; None is that of this process.
        stdin: None for that of this process, `subprocess.PIPE` or `DEVNULL`, a descriptor, or an open file.
        stdout: as `stdin`.
        stderr: as `stdin`, or `subprocess.STDOUT`.

    Raises:
        CommandNotFound: there is no such program.
        CommandNotExecutable: the file cannot be executed.
        GuestError: the guest cannot be made, for example because user namespaces are forbidden.
        HostError: the options do not fit the host.
        OptionsError: the options do not fit each other.
        ForwardError: a port cannot be bound.
        LinkClosed: the guest's interface was deleted; the block was cancelled.
    """
    words = words_of(command)
    with ExitStack() as stack:
        stdio = Stdio(stdin, stdout, stderr)
        stack.callback(stdio.close)
        begun = stack.enter_context(
            await CommandGuest.begin(
                words,
                partial(_prepare, options, root=root),
                env=env,
                cwd=None if cwd is None else os.fspath(cwd),
                streams=stdio.streams,
                host_processes=host_processes,
            )
        )
        stdio.begun()
        try:
            ready = await begun.ready()
        except EOFError:
            raise GuestError.killed() from None
        link = Tap(ready.tap, ready.link, left_behind=True)
        stack.callback(link.close)
        setup = ready.prepared
        warn(*setup.warnings, *ready.warnings)
        ports = await open_ports(forwards, setup, begun)
        if ports is not None:
            stack.enter_context(ports)
        async with network_of(
            link, setup, services=services, decide=decide, capture=capture, record=record, forwards=ports
        ) as network:
            network.set_guest(begun, setup.own)
            begun.start()
            await begun.started()
            guest = Guest(network, begun, words, stdio, setup)
            network.nursery.start_soon(guest.watch)
            try:
                yield guest
            finally:
                await guest.end()


def _prepare(options: NamespaceOptions, *, root: bool) -> tuple[GuestPlan, Setup]:
    plan, setup = make_plan(options, read_host_for(options))
    return replace(plan, root=root), setup


async def run_guest(
    command: Sequence[str | os.PathLike[str]],
    options: NamespaceOptions = _LIKE_HOST,
    *,
    services: Services | None = None,
    decide: Decider | None = None,
    capture: CaptureFile | None = None,
    record: str | os.PathLike[str] | RecordingFile | None = None,
    forwards: Iterable[ForwardRule] = (),
    root: bool = False,
    host_processes: bool = False,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    input: bytes | None = None,
    stdin: Stream = subprocess.DEVNULL,
    stdout: Stream = None,
    stderr: Stream = None,
    capture_stdout: bool = False,
    capture_stderr: bool = False,
    check: bool = True,
    task_status: trio.TaskStatus[Guest] = trio.TASK_STATUS_IGNORED,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command with a network of its own until it ends, as `trio.run_process` runs one without.

    If this is cancelled, the command is ended with SIGTERM, and after 5 s SIGKILL.

    Args:
        command: see `open_guest`, as the other arguments that are not here.
        options: see `open_guest`.
        services: see `open_network`.
        decide: see `open_network`.
        capture: see `open_network`.
        record: see `open_network`.
        forwards: see `open_guest`.
        root: see `open_guest`.
        host_processes: see `open_guest`.
        env: see `open_guest`.
        cwd: see `open_guest`.
        input: bytes for the command's stdin, which is closed after them.
        stdin: see `open_guest`; empty by default.
        stdout: see `open_guest`.
        stderr: see `open_guest`.
        capture_stdout: whether to return what the command writes to stdout.
        capture_stderr: whether to return what the command writes to stderr.
        check: whether to raise an exception if the command's status is not 0.
        task_status: passed by `nursery.start`, which returns the `Guest` as soon as the command runs.

    Returns:
        The command, its status, and the captured output; None for output that was not captured.

    Raises:
        subprocess.CalledProcessError: the command failed, and `check` is set.
        UsageError: two arguments contradict each other.
        GuestError: see `open_guest`, as for other exceptions.
    """
    for name, contradicts in (
        ("input and stdin", input is not None and stdin != subprocess.DEVNULL),
        ("capture_stdout and stdout", capture_stdout and stdout is not None),
        ("capture_stderr and stderr", capture_stderr and stderr is not None),
    ):
        if contradicts:
            raise UsageError(f"{name} contradict each other; give one of them")
    for name, wanted in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
        if wanted == subprocess.PIPE:
            raise UsageError(f"{name}: no one would use the pipe; capture the output, give input, or call open_guest")
    output: list[bytes] = []
    errors: list[bytes] = []
    opened = open_guest(
        command,
        options,
        services=services,
        decide=decide,
        capture=capture,
        record=record,
        forwards=forwards,
        root=root,
        host_processes=host_processes,
        env=env,
        cwd=cwd,
        stdin=stdin if input is None else subprocess.PIPE,
        stdout=subprocess.PIPE if capture_stdout else stdout,
        stderr=subprocess.PIPE if capture_stderr else stderr,
    )
    async with opened as guest:
        task_status.started(guest)
        tasks = guest.network.nursery
        if guest.stdin is not None:
            tasks.start_soon(_feed, guest.stdin, input or b"")
        ends = []
        for stream, parts in ((guest.stdout, output), (guest.stderr, errors)):
            if stream is not None:
                ends.append(trio.Event())
                tasks.start_soon(_collect, stream, parts, ends[-1])
        status = await guest.wait()
        await guest.end()  # background processes may hold the pipes open
        for end in ends:
            await end.wait()
    out = b"".join(output) if capture_stdout else None
    err = b"".join(errors) if capture_stderr else None
    if check and status:
        raise subprocess.CalledProcessError(status, list(guest.args), out, err)
    return subprocess.CompletedProcess(list(guest.args), status, out, err)


async def _feed(stream: trio.abc.SendStream, data: bytes) -> None:
    with suppress(trio.BrokenResourceError):  # the command does not read all of it
        async with stream:
            await stream.send_all(data)


async def _collect(stream: trio.abc.ReceiveStream, parts: list[bytes], end: trio.Event) -> None:
    async with stream:
        async for part in stream:
            parts.append(bytes(part))
    end.set()
