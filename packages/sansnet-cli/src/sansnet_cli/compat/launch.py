"""From what is asked of a compatible command to a guest that is served, here or in the background."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar

from sansnet_cli.attach.namespace import find_namespace, needs_resident
from sansnet_cli.compat.banner import describe
from sansnet_cli.compat.log import Log, LogFile
from sansnet_cli.compat.request import Process, Request
from sansnet_cli.options import values
from sansnet_cli.options.records import AttachOptions, RunOptions, ServeOptions
from sansnet_cli.output import report
from sansnet_cli.process.daemon import (
    Identity,
    PidFile,
    close_inherited,
    named_descriptors,
    run_in_background,
    system_root,
    unwritable,
)
from sansnet_cli.process.loading import load_everything
from sansnet_cli.runtime.observe import open_capture
from sansnet_core import NetworkConfig, SansnetError
from sansnet_core.records import replace
from sansnet_trio.guest.command import CommandGuest
from sansnet_trio.guest.plan import GuestPlan
from sansnet_trio.hostinfo import HostError
from sansnet_trio.links.passed_socket import adopt
from sansnet_trio.linux import privileges, syscalls
from sansnet_trio.linux.rtnetlink import load_alone
from sansnet_trio.plan.host import read_host_for
from sansnet_trio.plan.options import NamespaceOptions
from sansnet_trio.plan.setup import Setup, make_plan, make_setup

if TYPE_CHECKING:
    from sansnet_trio.links.machine_listener import MachineListener

__all__ = ["start"]

T = TypeVar("T")

_SOCKETS: Final = "/tmp/passt_{}.socket"
_MAX_SOCKETS: Final = 1000


def start(program: str, request: Request) -> int:
    """Do what was asked for; see `main`."""
    log = Log(program, request.process.level)
    report.speak_through(log)
    try:
        fd = request.options.fd if isinstance(request.options, ServeOptions) else None
        connection = None if fd is None else adopt(fd)
        close_inherited(_needed(request, connection))
        return _start(request, log, connection)
    except (OSError, SansnetError, MemoryError, ImportError) as error:
        log.error(report.reason(error))
    return 1


def _needed(request: Request, connection: socket.socket | None) -> Iterator[int]:
    """Descriptors of the caller's that the guest comes by."""
    if connection is not None:
        yield connection.fileno()
    if isinstance(request.options, AttachOptions):
        yield from named_descriptors(request.options.netns, request.options.userns)


def _start(request: Request, log: Log, connection: socket.socket | None) -> int:
    process, options = request.process, request.options
    if process.log_file is not None:
        log.write_to(_opened("log", process.log_file, lambda path: LogFile(path, process.log_size)))
    pid_file = _opened("pid", process.pid, PidFile) if process.pid is not None else None
    capture = open_capture(options.pcap) if options.pcap is not None else None
    if not process.foreground:
        log.prepare()
    with capture or contextlib.nullcontext():
        return _run(options, process, log, pid_file, capture, connection)


def _run(
    options: RunOptions | AttachOptions | ServeOptions,
    process: Process,
    log: Log,
    pid_file: PidFile | None,
    capture: BinaryIO | None,
    connection: socket.socket | None,
) -> int:
    if isinstance(options, RunOptions):
        steps = _ReadySteps(process, log, pid_file)
        steps.become()
        steps.ready()
        return _spawn(options, capture)

    def work(steps: _ReadySteps) -> int:
        if isinstance(options, ServeOptions):
            return _serve(options, capture, connection, steps)
        return _attach(options, capture, steps)

    if process.foreground:
        return work(_ReadySteps(process, log, pid_file))
    return run_in_background(lambda let_go: work(_ReadySteps(process, log, None, let_go)), pid_file)


class _ReadySteps:
    """What happens once everything is open and works.

    Args:
        process: what it is to be like.
        log: where it speaks.
        pid_file: to write our own number to.
        let_go: what lets the caller go, if it waits.
    """

    def __init__(
        self, process: Process, log: Log, pid_file: PidFile | None, let_go: Callable[[], None] | None = None
    ) -> None:
        self.log = log
        self.changes_identity = process.identity is not None
        self._identity = process.identity
        self._pid_file = pid_file
        self._let_go = let_go

    def describe(self, config: NetworkConfig) -> None:
        """Say what the guest is told."""
        for line in describe(config):
            self.log.inform(line)

    def become(self, otherwise: Identity | None = None) -> None:
        """Be who we are to be: who was named, or somebody else.

        Raises:
            HostError: we may not.
        """
        identity = self._identity or otherwise
        if identity is not None:
            try:
                privileges.drop_capabilities({privileges.CAP_SETGID, privileges.CAP_SETUID})
                identity.assume()
            except OSError as error:
                who = f"user {identity.uid} of group {identity.gid}"
                raise HostError(f"cannot become {who} ({error.strerror}); be root, or leave out --runas") from error

    def ready(self) -> None:
        """Let the caller know."""
        if self._pid_file is not None:
            try:
                self._pid_file.write(os.getpid())
            except OSError as error:
                raise unwritable(error) from error
        if self._let_go is not None:
            self.log.enter_background()
            self._let_go()


def _opened(kind: str, path: str, make: Callable[[str], T]) -> T:
    try:
        return make(path)
    except OSError as error:
        raise HostError(f"the {kind} file {path} cannot be written ({error.strerror}); give another one") from error


def _serve(
    options: ServeOptions, capture: BinaryIO | None, connection: socket.socket | None, steps: _ReadySteps
) -> int:
    """Be the network of machines."""
    from sansnet_cli.serve.serve import serve

    load_alone()
    setup = make_setup(options, read_host_for(options))
    steps.describe(setup.config)
    listener = None
    if connection is None:
        listener, path = _listen(options.socket)
        options = replace(options, socket=path)
        steps.log.inform(f"UNIX domain socket bound at {path}")

    otherwise = Identity.nobody() if system_root() else None
    if steps.changes_identity or otherwise is not None:
        load_everything()

    def become() -> None:
        steps.become(otherwise)
        if options.control is None:  # who asks there could not be told from others any more
            _leave_user_namespace()

    serve(options, setup, capture, passed=connection, listener=listener, become=become, on_ready=steps.ready)
    return 0


def _attach(options: AttachOptions, capture: BinaryIO | None, steps: _ReadySteps) -> int:
    """Be the network of a namespace that exists. Who may enter that of root's stays root, unless told not to."""
    from sansnet_trio.guest.attached import AttachedGuest

    namespace = find_namespace(options)
    stays = needs_resident(options, namespace, changes_user=steps.changes_identity)
    with AttachedGuest.fork(namespace, partial(_prepare, options), stays=stays) as guest:
        from sansnet_cli.attach.start import attach

        def ready(setup: Setup) -> None:
            steps.describe(setup.config)
            steps.ready()

        attach(guest, options, capture, become=steps.become, on_ready=ready, load_first=steps.changes_identity)
    return 0


def _spawn(options: RunOptions, capture: BinaryIO | None) -> int:
    """Be the network of a command in a namespace of its own, until that ends."""
    with CommandGuest.fork(options.command, partial(_prepare, options)) as guest:
        from sansnet_cli.run.start import supervise

        return supervise(guest, options, capture)


def _prepare(options: NamespaceOptions) -> tuple[GuestPlan, Setup]:
    """Like that of `run`, but the command is root in its user namespace, and names are looked up as on the host."""
    plan, setup = make_plan(options, read_host_for(options))
    hostname = options.hostname or f"pasta-{socket.gethostname()}"[: values.MAX_HOSTNAME]
    return replace(plan, resolv_conf=None, hosts=(), hostname=hostname, root=True), setup


def _leave_user_namespace() -> None:
    """Be in one of our own, where nobody is anybody: privileged over nothing. Some callers look whether that is so."""
    with contextlib.suppress(OSError):  # none are to be had here: so be it
        syscalls.unshare(syscalls.CLONE_NEWUSER)


def _listen(path: str | None) -> tuple[MachineListener, str]:
    """Listen on a path, or the first free one."""
    from sansnet_cli.serve.serve import refused
    from sansnet_trio.links.machine_listener import ListenError, MachineListener

    if path is not None:
        return MachineListener(path, on_refused=refused), path
    for number in range(1, _MAX_SOCKETS):
        path = _SOCKETS.format(number)
        with contextlib.suppress(ListenError):
            return MachineListener(path, on_refused=refused), path
    raise ListenError(f"cannot listen on any of {_SOCKETS.format('N')}; give a path with --socket")
