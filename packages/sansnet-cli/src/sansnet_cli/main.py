"""The command `sansnet`.

Start-up is quick because the guest is made while the rest of the program is loaded: whatever the child does not need is
imported after the fork. Loading makes no garbage, so the collector waits until that is done; and the interpreter does
not tidy up at the end what the kernel frees anyway. Together that saves a fifth of the time that a short run takes.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import os
import signal
import sys
from collections.abc import Sequence
from typing import BinaryIO, Final, NoReturn

from sansnet_cli import __version__
from sansnet_cli.capture import open_capture
from sansnet_cli.options import (
    AttachOptions,
    MachineOptions,
    NamespaceOptions,
    QemuOptions,
    RunOptions,
    ServeOptions,
    UsageProblem,
    parse_attach,
    parse_qemu,
    parse_run,
    parse_serve,
)
from sansnet_cli.plan import Setup, make_plan, make_setup
from sansnet_cli.template import read_template
from sansnet_core.errors import SansnetError
from sansnet_trio import syscalls
from sansnet_trio.namespace import CommandNotExecutable, CommandNotFound, Guest, GuestPlan

__all__ = ["main"]

_HELP: Final = """\
usage: sansnet run [OPTIONS] [--] [COMMAND [ARG...]]
       sansnet attach [OPTIONS] (PID | --netns PATH|NAME)
       sansnet serve [--vhost-user] (--socket PATH | --fd FD) [OPTIONS]
       sansnet qemu [OPTIONS] -- QEMU-ARGUMENT...
       sansnet ctl PATH COMMAND [OPTIONS]

A network for guests without privileges: TCP, UDP and ping from a guest become ordinary sockets of the host.

commands:
  run            run a command in a network namespace of its own, where the network works
  attach         be the network of a namespace that exists already, such as a container's
  serve          be the network of a virtual machine (QEMU)
  qemu           run QEMU with such a network
  ctl            look at what one of these does, and forward other ports

options:
  --version      print the version and exit
  -h, --help     print this and exit

`sansnet run --help` says more, and so do the others.
"""

_SIGNALLED: Final = 128
"""Added to the number of the signal that ended a command, as shells do."""


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    gc.disable()
    _reserve_descriptors()
    try:
        status = _dispatch(sys.argv[1:])
    except SystemExit as end:  # argparse has printed the help
        status = int(end.code or 0)
    except UsageProblem as problem:
        status = _complain(problem, 2)
    except CommandNotFound as error:
        status = _complain(error, 127)
    except CommandNotExecutable as error:
        status = _complain(error, 126)
    except OSError as error:
        few = error.errno in (errno.EMFILE, errno.ENFILE)
        status = _complain(f"{error.strerror}; allow more, as by: ulimit -n 1024" if few else error, 1)
    except SansnetError as error:
        status = _complain(error, 1)
    except KeyboardInterrupt:
        status = -signal.SIGINT
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # closed before we began
            with contextlib.suppress(OSError):
                stream.flush()
    if status < 0:
        status = _die(-status) if _was_typed(-status) else _SIGNALLED - status
    os._exit(status)


def _reserve_descriptors() -> None:
    """Let nothing of ours become a standard stream that was closed before we began. The command has it closed too."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # is given the lowest number that is free, and closed on exec
    if sys.stderr is None:  # print() would take stdout instead
        sys.stderr = os.fdopen(2, "w")


def _was_typed(number: int) -> bool:
    """Whether a signal that ended the command may be one of the terminal's, for all that runs there."""
    if number not in (signal.SIGINT, signal.SIGQUIT):
        return False
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:  # there is none
        return False


def _die(number: int) -> int:
    """Die of the signal that the command died of: a shell that runs us in a loop must see that Ctrl-C ended it.

    Returns:
        The exit status that says the same, where the kernel does not let us die of it, as the first process of a
        container.
    """
    syscalls.forbid_dump()
    with contextlib.suppress(OSError):  # there is no other action for SIGKILL
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    signal.raise_signal(number)
    return _SIGNALLED + number


def _complain(sentence: object, status: int) -> int:
    with contextlib.suppress(OSError):  # nobody listens
        print(f"sansnet: {sentence}", file=sys.stderr)
    return status


def _dispatch(arguments: Sequence[str]) -> int:
    match arguments:
        case ["run", *rest]:
            return _run(parse_run(rest))
        case ["attach", *rest]:
            return _attach(parse_attach(rest))
        case ["serve", *rest]:
            return _serve(parse_serve(rest))
        case ["qemu", *rest]:
            return _qemu(parse_qemu(rest))
        case ["ctl", *rest]:
            return _ctl(rest)
        case ["-h" | "--help", *_]:
            print(_HELP, end="")
            return 0
        case ["--version", *_]:
            print(f"sansnet {__version__}")
            return 0
        case []:
            raise UsageProblem("no command is given; see `sansnet --help`")
        case [first, *_]:
            raise UsageProblem(f"{first!r} is no command of sansnet; see `sansnet --help`")
        case _:
            raise AssertionError(arguments)


def _run(options: RunOptions) -> int:
    capture = open_capture(options.pcap) if options.pcap is not None else None
    with Guest.fork(options.command, functools.partial(_prepare, options)) as guest:
        from sansnet_cli.supervise import supervise

        try:
            return supervise(guest, options, capture)
        except CommandNotFound as error:
            if options.command == (os.environ.get("SHELL"),):
                raise CommandNotFound(f"{error} in $SHELL") from error
            raise


def _attach(options: AttachOptions) -> int:
    from sansnet_trio.attached import AttachedGuest
    from sansnet_trio.existing import Existing

    capture = open_capture(options.pcap) if options.pcap is not None else None
    if options.pid is not None:
        namespace = Existing.of_process(options.pid)
    else:
        assert options.netns is not None
        namespace = Existing.named(options.netns, options.userns)
    with AttachedGuest.fork(namespace, functools.partial(_prepare, options)) as guest:
        from sansnet_cli.attach import attach

        attach(guest, options, capture)
    return 0


def _serve(options: ServeOptions) -> int:
    setup, capture = _prepare_machine(options)
    from sansnet_cli.serve import serve

    serve(options, setup, capture)
    return 0


def _qemu(options: QemuOptions) -> int:
    setup, capture = _prepare_machine(options)
    from sansnet_cli.boot import boot

    return boot(options, setup, capture)


def _ctl(arguments: Sequence[str]) -> int:
    from sansnet_cli.ctl import ctl

    return ctl(arguments)


def _prepare_machine(options: MachineOptions) -> tuple[Setup, BinaryIO | None]:
    setup = make_setup(options, read_template(options))
    return setup, open_capture(options.pcap) if options.pcap is not None else None


def _prepare(options: NamespaceOptions) -> tuple[GuestPlan, Setup]:
    return make_plan(options, read_template(options))
