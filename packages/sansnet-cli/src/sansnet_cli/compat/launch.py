"""From a parsed command line of pasta or passt to a guest that is served, in this process or in the background."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar

from sansnet_cli.attach.namespace import prepared
from sansnet_cli.compat.banner import describe
from sansnet_cli.compat.log import Log, LogFile
from sansnet_cli.compat.request import Request
from sansnet_cli.options import values
from sansnet_cli.options.records import AttachOptions, RunOptions, ServeOptions
from sansnet_cli.output import report
from sansnet_cli.process.daemon import (
    Identity,
    PidFile,
    run_in_background,
    system_root,
    unwritable,
)
from sansnet_cli.process.loading import load
from sansnet_cli.process.loop import load_trio
from sansnet_cli.runtime.observe import open_capture
from sansnet_core import NetworkConfig, SansnetError
from sansnet_core.records import replace
from sansnet_trio.guest.plan import GuestPlan
from sansnet_trio.hostinfo import HostError
from sansnet_trio.links.passed_socket import adopt
from sansnet_trio.linux import files, privileges, syscalls
from sansnet_trio.plan.host import read_host_for
from sansnet_trio.plan.options import NamespaceOptions
from sansnet_trio.plan.setup import Setup, make_plan, make_setup
from sansnet_trio.sandbox.mode import choose

if TYPE_CHECKING:
    from sansnet_trio.guest.attached import AttachedGuest
    from sansnet_trio.links.machine_listener import MachineListener

__all__ = ["start"]

T = TypeVar("T")

_SOCKETS: Final = "/tmp/passt_{}.socket"
_MAX_SOCKETS: Final = 1000


def start(program: str, request: Request) -> int:
    """Serve a guest as a command line of pasta or passt asks for.

    Args:
        program: `pasta` or `passt`.
        request: the request that was made from its command line.

    Returns:
        The exit status; see `sansnet_cli.compat.main`.
    """
    log = Log(program, request.process.level)
    report.send_to(log)
    choose(request.options.sandbox)
    try:
        fd = request.options.fd if isinstance(request.options, ServeOptions) else None
        passed = None if fd is None else adopt(fd)
        return _start(request, log, passed)
    except (OSError, SansnetError, MemoryError, ImportError) as error:
        log.error(report.reason(error))
    return 1


def _start(request: Request, log: Log, passed: socket.socket | None) -> int:
    process, options = request.process, request.options
    identity = process.identity
    if identity is None and isinstance(options, ServeOptions) and system_root():
        identity = Identity.nobody()
    if identity is not None:
        files.give_new_files(identity.uid, identity.gid)
    if process.log_file is not None:
        log.write_to(_opened("log", process.log_file, lambda path: LogFile(path, process.log_size)))
    pid_file = _opened("pid", process.pid, PidFile) if process.pid is not None else None
    capture = open_capture(options.pcap)
    if not process.foreground:
        log.prepare()
    with contextlib.ExitStack() as stack:
        if capture is not None:
            stack.enter_context(capture)
        if isinstance(options, RunOptions):
            steps = _ReadySteps(identity, log, pid_file)
            steps.become()
            steps.ready()
            return _run(options, capture)

        work: Callable[[_ReadySteps], int]
        if isinstance(options, ServeOptions):
            work = partial(_serve, options, capture, passed)
        else:
            fork = stack.enter_context(prepared(options, partial(_prepare, options)))
            work = partial(_attach, options, capture, fork)
        if process.foreground:
            return work(_ReadySteps(identity, log, pid_file))
        return run_in_background(
            lambda release_caller: work(_ReadySteps(identity, log, None, release_caller)), pid_file
        )


class _ReadySteps:
    """Steps taken when the guest is ready: change the user, write the pid file, release the caller.

    Args:
        identity: the user and group to become; None changes neither.
        log: gets the messages.
        pid_file: gets the number of this process.
        release_caller: lets the calling process return, if it waits.
    """

    def __init__(
        self,
        identity: Identity | None,
        log: Log,
        pid_file: PidFile | None,
        release_caller: Callable[[], None] | None = None,
    ) -> None:
        self.log = log
        self.identity = identity
        self._pid_file = pid_file
        self._release_caller = release_caller

    def describe(self, config: NetworkConfig) -> None:
        """Print the guest's network."""
        for line in describe(config):
            self.log.inform(line)

    def become(self) -> None:
        """Change the user and group, if there are others to become.

        Raises:
            HostError: that is not permitted.
        """
        identity = self.identity
        if identity is not None:
            try:
                privileges.drop_capabilities({privileges.CAP_SETGID, privileges.CAP_SETUID})
                identity.assume()
            except OSError as error:
                name = f"user {identity.uid} of group {identity.gid}"
                raise HostError(
                    f"cannot become {name} ({error.strerror}); run it as root, or leave out --runas"
                ) from error

    def ready(self) -> None:
        """Write the pid file and release the caller."""
        if self._pid_file is not None:
            try:
                self._pid_file.write(os.getpid())
            except OSError as error:
                raise unwritable(error) from error
        if self._release_caller is not None:
            self.log.enter_background()
            self._release_caller()


def _opened(kind: str, path: str, make: Callable[[str], T]) -> T:
    try:
        return make(path)
    except OSError as error:
        raise HostError(f"the {kind} file {path} cannot be written ({error.strerror}); give another one") from error


def _serve(options: ServeOptions, capture: BinaryIO | None, passed: socket.socket | None, steps: _ReadySteps) -> int:
    """Serve virtual machines."""
    load_trio()
    from sansnet_cli.serve.serve import serve

    setup = make_setup(options, read_host_for(options))
    steps.describe(setup.config)
    source: socket.socket | MachineListener
    if passed is not None:
        source = passed
    else:
        source, path = _listen(options.socket)
        steps.log.inform(f"UNIX domain socket bound at {path}")

    if steps.identity is not None:
        load(options)

    def become() -> None:
        steps.become()
        if options.control is None:  # its server could not tell apart its clients' users any more
            _leave_user_namespace()

    serve(options, setup, capture, source, become=become, on_ready=steps.ready)
    return 0


def _attach(
    options: AttachOptions, capture: BinaryIO | None, fork: Callable[[], AttachedGuest[Setup]], steps: _ReadySteps
) -> int:
    """Serve an existing namespace. Root stays root unless --runas is given, because it may enter every namespace."""
    changes_user = steps.identity is not None
    with fork() as guest:
        from sansnet_cli.attach.start import start as start_attached

        def ready(setup: Setup) -> None:
            steps.describe(setup.config)
            steps.ready()

        start_attached(guest, options, capture, become=steps.become, on_ready=ready, load_first=changes_user)
    return 0


def _run(options: RunOptions, capture: BinaryIO | None) -> int:
    """Run a command in a namespace of its own, until the command ends."""
    from sansnet_trio.guest.command import CommandGuest

    with CommandGuest.fork(options.command, partial(_prepare, options), host_processes=options.host_processes) as guest:
        from sansnet_cli.run.start import start as start_command

        return start_command(guest, options, capture)


def _prepare(options: NamespaceOptions) -> tuple[GuestPlan, Setup]:
    """As for `sansnet run --root`, but with the host's own files for names, unless our resolver answers."""
    plan, setup = make_plan(options, read_host_for(options))
    hostname = options.hostname or f"pasta-{socket.gethostname()}"[: values.MAX_HOSTNAME]
    resolv_conf = None if setup.config.resolver is None else plan.resolv_conf
    return replace(plan, resolv_conf=resolv_conf, hosts=(), hostname=hostname, root=True), setup


def _leave_user_namespace() -> None:
    """Enter a new user namespace without mapped users, which has no privileges. Some callers check that."""
    with contextlib.suppress(OSError):  # this host does not allow new ones
        syscalls.unshare(syscalls.CLONE_NEWUSER)


def _listen(path: str | None) -> tuple[MachineListener, str]:
    """Listen on a path, or on the first free one of `_SOCKETS`."""
    from sansnet_cli.serve.serve import report_refused
    from sansnet_trio.links.machine_listener import ListenError, MachineListener

    if path is not None:
        return MachineListener(path, on_refused=report_refused), path
    for number in range(1, _MAX_SOCKETS):
        path = _SOCKETS.format(number)
        with contextlib.suppress(ListenError):
            return MachineListener(path, on_refused=report_refused), path
    raise ListenError(f"cannot listen on any of {_SOCKETS.format('N')}; give a path with --socket")
