"""The command `sansnet`.

Start-up is quick because nothing is loaded before it is needed: not here what only commands need, nor before the fork
of a guest what the guest does not need, nor trio before the guest is ready. Loading makes no garbage, so the collector
waits until that is done; and the interpreter does not tidy up at the end what the kernel frees anyway.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from sansnet_cli import __version__
from sansnet_cli.compat import program_named

__all__ = ["main"]

_HELP: Final = """\
usage: sansnet run [OPTIONS] [--] [COMMAND [ARG...]]
       sansnet attach [OPTIONS] (PID | --netns PATH|NAME)
       sansnet serve [--vhost-user] (--socket PATH | --fd FD) [OPTIONS]
       sansnet qemu [OPTIONS] -- QEMU-ARGUMENT...
       sansnet ctl PATH COMMAND [OPTIONS]
       sansnet (pasta|passt|pesto) ...

A network for guests without privileges: TCP, UDP and ping from a guest become ordinary sockets of the host.

commands:
  run            run a command in a network namespace of its own, where the network works
  attach         be the network of a namespace that exists already, such as a container's
  serve          be the network of a virtual machine (QEMU)
  qemu           run QEMU with such a network
  ctl            look at what one of these does, and forward other ports
  pasta, passt, pesto
                 do what these programs do, for who calls them

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
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # who had it ignored has children that tell nobody how they ended
    _reserve_descriptors()
    try:
        program = program_named(sys.argv[0])
        status = _dispatch([program, *sys.argv[1:]] if program else sys.argv[1:])
    except SystemExit as end:  # argparse has printed the help
        status = int(end.code or 0)
    except KeyboardInterrupt:
        status = -signal.SIGINT
    except Exception as error:
        status = _explain(error)
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
    from sansnet_trio import syscalls

    syscalls.forbid_dump()
    with contextlib.suppress(OSError):  # there is no other action for SIGKILL
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    signal.raise_signal(number)
    return _SIGNALLED + number


def _explain(error: Exception) -> int:
    """Say what is wrong; the exit status that fits it."""
    from sansnet_cli.options import UsageProblem
    from sansnet_cli.report import reason
    from sansnet_core.errors import SansnetError
    from sansnet_trio.guests import CommandNotExecutable, CommandNotFound

    match error:
        case UsageProblem():
            return _complain(error, 2)
        case CommandNotFound():
            return _complain(error, 127)
        case CommandNotExecutable():
            return _complain(error, 126)
        case OSError() | SansnetError():
            return _complain(reason(error), 1)
        case _:
            raise error


def _complain(sentence: object, status: int) -> int:
    with contextlib.suppress(OSError):  # nobody listens
        print(f"sansnet: {sentence}", file=sys.stderr)
    return status


def _dispatch(arguments: Sequence[str]) -> int:
    match arguments:
        case ["run" | "attach" | "serve" | "qemu" as name, *rest]:
            from sansnet_cli.commands import COMMANDS

            return COMMANDS[name](rest)
        case ["ctl", *rest]:
            from sansnet_cli.ctl import ctl

            return ctl(rest)
        case ["pasta" | "passt" as program, *rest]:
            from sansnet_cli.compat.main import main as compatible

            return compatible(program, rest)
        case ["pesto", *rest]:
            from sansnet_cli.compat.pesto import main as pesto

            return pesto(rest)
        case ["-h" | "--help", *_]:
            print(_HELP, end="")
            return 0
        case ["--version", *_]:
            print(f"sansnet {__version__}")
            return 0
        case _:
            from sansnet_cli.options import UsageProblem

            what = f"{arguments[0]!r} is no command of sansnet" if arguments else "no command is given"
            raise UsageProblem(f"{what}; see `sansnet --help`")
