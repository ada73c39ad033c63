"""From the words of a command line to the end of the process."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

__all__ = ["COMMANDS", "dispatch"]

_LEAST_MEMORY: Final = 96 << 20
"""Bytes of address space. What is loaded takes 70 MB of it, most of that shared with other programs."""
COMMANDS: Final = ("run", "attach", "serve", "qemu", "ctl", "completion", "pasta", "passt", "pesto")

_SIGNALLED: Final = 128
"""Added to the number of the signal that ended a command, as shells do."""


def dispatch(arguments: Sequence[str]) -> NoReturn:
    """Do what is asked for, and exit."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # who had it ignored has children that tell nobody how they ended
    try:
        _require_memory()
        status = _do(arguments)
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


def _require_memory() -> None:
    """See that the limit on memory lets the program be loaded: halfway libraries say what they like."""
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < _LEAST_MEMORY:
        raise MemoryError


def _do(arguments: Sequence[str]) -> int:
    match arguments:
        case ["run", *rest]:
            from sansnet_cli.run.command import run

            return run(rest)
        case ["attach", *rest]:
            from sansnet_cli.attach.command import attach

            return attach(rest)
        case ["serve", *rest]:
            from sansnet_cli.serve.command import serve

            return serve(rest)
        case ["qemu", *rest]:
            from sansnet_cli.qemu.command import qemu

            return qemu(rest)
        case ["ctl", *rest]:
            from sansnet_cli.ctl.command import ctl

            return ctl(rest)
        case ["completion", *rest]:
            from sansnet_cli.completion.command import completion
            from sansnet_cli.parsers import parsers

            return completion(rest, parsers())
        case ["pasta" | "passt" as program, *rest]:
            from sansnet_cli.compat.main import main

            return main(program, rest)
        case ["pesto", *rest]:
            from sansnet_cli.compat.pesto import main as pesto

            return pesto(rest)
        case _:
            from sansnet_cli.options.proposals import unknown_command
            from sansnet_cli.options.records import CommandLineError

            raise CommandLineError(f"{unknown_command(arguments, COMMANDS)}; see `sansnet --help`")


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
    from sansnet_trio.linux import syscalls

    syscalls.forbid_dump()
    with contextlib.suppress(OSError):  # there is no other action for SIGKILL
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    signal.raise_signal(number)
    return _SIGNALLED + number


def _explain(error: Exception) -> int:
    """Say what is wrong; the exit status that fits it."""
    if isinstance(error, MemoryError):
        return _complain("there is too little memory; allow more, as by: ulimit -v unlimited", 1)
    from sansnet_cli.output.report import reason
    from sansnet_core.errors import SansnetError
    from sansnet_trio.guest.errors import CommandNotExecutable, CommandNotFound, GuestError
    from sansnet_trio.plan.options import OptionsError

    match _cause(error):
        case OptionsError():
            return _complain(error, 2)
        case CommandNotFound():
            return _complain(error, 127)
        case CommandNotExecutable():
            return _complain(error, 126)
        case OSError() | SansnetError() | MemoryError() | ImportError() as cause:
            return _complain(reason(cause), 1)
        case EOFError():
            return _complain(GuestError.killed(), 1)
        case _:
            raise error


def _cause(error: BaseException) -> BaseException:
    """What an exception is about, which may be a shortage of memory that came in the way of something else."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError) or (isinstance(seen, BaseExceptionGroup) and seen.subgroup(MemoryError)):
            return MemoryError()
        seen = seen.__cause__ or seen.__context__
    return error


def _complain(sentence: object, status: int) -> int:
    from sansnet_cli.output.stderr import say

    say(f"sansnet: {sentence}")
    return status
