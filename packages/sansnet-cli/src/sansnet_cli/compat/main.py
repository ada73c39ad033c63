"""The compatible commands, from their words to their exit status."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar

from sansnet_cli import __version__, report
from sansnet_cli.capture import open_capture
from sansnet_cli.compat.command_line import BadOption
from sansnet_cli.compat.daemon import Identity, PidFile, close_inherited, run_in_background, system_root
from sansnet_cli.compat.log import Log, LogFile
from sansnet_cli.compat.request import Information, Misuse, Process, Request, read
from sansnet_cli.compat.startup import describe
from sansnet_cli.compat.table import usage
from sansnet_cli.options import AttachOptions, NamespaceOptions, RunOptions, ServeOptions, UsageProblem
from sansnet_cli.plan import Setup, make_plan, make_setup
from sansnet_cli.template import find_namespace, read_template
from sansnet_core import SansnetError
from sansnet_trio import syscalls
from sansnet_trio.hostinfo import HostError
from sansnet_trio.namespace import Guest, GuestPlan

if TYPE_CHECKING:
    from sansnet_trio.attached import AttachedGuest
    from sansnet_trio.listener import GuestListener

__all__ = ["main"]

T = TypeVar("T")

_CAPABILITIES: Final = {"type": "net"}
"""What a management program wants to know of a vhost-user back-end (docs/interop/vhost-user.rst of QEMU)."""

_DESCRIPTOR: Final = re.compile(r"(?:/proc/self|/dev)/fd/(\d+)")

_SOCKETS: Final = "/tmp/passt_{}.socket"
_MOST_SOCKETS: Final = 1000

_MAX_HOSTNAME: Final = 64
"""Bytes (HOST_NAME_MAX)."""


def main(program: str, words: Sequence[str]) -> int:
    """Do what the words after a program's name ask for.

    Returns:
        The exit status: 1 for whatever is wrong. Twice, if the program goes to the background: in both processes. For
        a command that a signal ended, that signal's negative number.
    """
    try:
        request = read(program, words)
    except Information as asked:
        return _inform(program, str(asked))
    except BadOption as bad:
        return _complain(f"{program}: {bad}\n{usage(program)}")
    except Misuse as misuse:
        return _complain(f"{program}: {misuse}; see `{program} --help`\n")
    log = Log(program, request.process.level)
    report.speak_through(log)
    try:
        close_inherited(_needed(request))
        return _start(request, log)
    except OSError as error:
        few = error.errno in (errno.EMFILE, errno.ENFILE)
        log.error(f"{error.strerror}; allow more, as by: ulimit -n 1024" if few else error)
    except (SansnetError, UsageProblem) as error:
        log.error(error)
    return 1


def _inform(program: str, what: str) -> int:
    texts = {
        "help": lambda: usage(program),
        "version": lambda: f"{program} {__version__} (sansnet)\nMIT or Apache-2.0, as you like.\n",
        "print-capabilities": lambda: f"{json.dumps(_CAPABILITIES)}\n",
    }
    sys.stdout.write(texts[what]())
    return 0


def _complain(text: str) -> int:
    with contextlib.suppress(OSError):  # nobody listens
        sys.stderr.write(text)
    return 1


def _needed(request: Request) -> Iterator[int]:
    """Descriptors of the caller's that the guest comes by."""
    if isinstance(request.options, ServeOptions) and request.options.fd is not None:
        yield request.options.fd
    if isinstance(request.options, AttachOptions):
        for path in (request.options.netns, request.options.userns):
            if path is not None and (match := _DESCRIPTOR.fullmatch(path)):
                yield int(match[1])


def _start(request: Request, log: Log) -> int:
    process, options = request.process, request.options
    if process.log_file is not None:
        log.write_to(_opened("log", process.log_file, lambda path: LogFile(path, process.log_size)))
    pid_file = _opened("pid", process.pid, PidFile) if process.pid is not None else None
    capture = open_capture(options.pcap) if options.pcap is not None else None
    if isinstance(options, RunOptions):
        if process.identity is not None:
            process.identity.assume()
        if pid_file is not None:
            pid_file.write(os.getpid())
        return _spawn(options, capture)

    def work(let_go: Callable[[], None]) -> int:
        if isinstance(options, ServeOptions):
            return _serve(options, capture, log, partial(_settle_machine, process, log, let_go))
        return _attach(options, capture, log, process, partial(_settle_namespace, process, log, let_go))

    if not process.foreground:
        return run_in_background(work, pid_file)
    return work(lambda: pid_file.write(os.getpid()) if pid_file is not None else None)


def _opened(kind: str, path: str, make: Callable[[str], T]) -> T:
    try:
        return make(path)
    except OSError as error:
        raise HostError(f"the {kind} file {path} cannot be written ({error.strerror}); give another one") from error


def _settle_machine(process: Process, log: Log, let_go: Callable[[], None]) -> None:
    """All is open, and machines can connect: give up what is needed no more.

    In a user namespace of its own a process is privileged over nothing; some callers look whether it is in one.
    """
    identity = process.identity or (Identity.nobody() if system_root() else None)
    if identity is not None:
        identity.assume()
    with contextlib.suppress(OSError):  # none are to be had here: so be it
        syscalls.unshare(syscalls.CLONE_NEWUSER)
    _settle(process, log, let_go)


def _settle_namespace(
    process: Process, log: Log, let_go: Callable[[], None], guest: AttachedGuest[Setup], forwarding: bool
) -> None:
    """All is open, and the guest has its interface. Who may enter root's namespaces stays root, unless told not to."""
    if process.identity is not None:
        if forwarding:
            log.debug(f"process {guest.pid} makes sockets in the guest")  # it is started by that, while it may be
        process.identity.assume()
    _settle(process, log, let_go)


def _settle(process: Process, log: Log, let_go: Callable[[], None]) -> None:
    if not process.foreground:
        log.enter_background()
    let_go()


def _attach(
    options: AttachOptions,
    capture: BinaryIO | None,
    log: Log,
    process: Process,
    on_ready: Callable[[AttachedGuest[Setup], bool], None],
) -> int:
    """Be the network of a namespace that exists."""
    from sansnet_trio.attached import AttachedGuest

    with AttachedGuest.fork(find_namespace(options), partial(_prepare, options)) as guest:
        from sansnet_cli.attach import attach

        def ready(setup: Setup) -> None:
            for line in describe(setup.config):
                log.inform(line)
            on_ready(guest, bool(options.ports.forwards))

        attach(guest, options, capture, on_ready=ready, load_first=process.identity is not None)
    return 0


def _spawn(options: RunOptions, capture: BinaryIO | None) -> int:
    """Be the network of a command in a namespace of its own, until that ends."""
    with Guest.fork(options.command, partial(_prepare, options)) as guest:
        from sansnet_cli.supervise import supervise

        return supervise(guest, options, capture)


def _prepare(options: NamespaceOptions) -> tuple[GuestPlan, Setup]:
    """Like that of `run`, but names are looked up as on the host."""
    plan, setup = make_plan(options, read_template(options))
    hostname = options.hostname or f"pasta-{socket.gethostname()}"[:_MAX_HOSTNAME]
    return replace(plan, resolv_conf=None, hostname=hostname), setup


def _serve(options: ServeOptions, capture: BinaryIO | None, log: Log, on_ready: Callable[[], None]) -> int:
    """Be the network of machines."""
    from sansnet_cli.serve import serve

    setup = make_setup(options, read_template(options))
    for line in describe(setup.config):
        log.inform(line)
    listener = None
    if options.fd is None:
        listener, path = _listen(options.socket)
        options = replace(options, socket=path)
        log.inform(f"UNIX domain socket bound at {path}")
    serve(options, setup, capture, listener=listener, on_ready=on_ready)
    return 0


def _listen(path: str | None) -> tuple[GuestListener, str]:
    """Listen on a path, or the first free one."""
    from sansnet_cli.serve import refused
    from sansnet_trio.listener import GuestListener, ListenError

    if path is not None:
        return GuestListener(path, on_refused=refused), path
    for number in range(1, _MOST_SOCKETS):
        path = _SOCKETS.format(number)
        with contextlib.suppress(ListenError):
            return GuestListener(path, on_refused=refused), path
    raise ListenError(f"cannot listen on any of {_SOCKETS.format('N')}; give a path with --socket")
