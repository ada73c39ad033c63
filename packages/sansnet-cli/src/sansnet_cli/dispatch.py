"""From the arguments of the process to its exit status."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from sansnet_cli.process.inherited import close_unnamed
from sansnet_cli.process.library import load_argparse, load_socket
from sansnet_trio.words import use_words

__all__ = ["COMMANDS", "dispatch"]

_MIN_MEMORY: Final = 96 << 20
"""Bytes of address space. The loaded program takes 70 MB, most of it shared with other processes."""
_COMPATIBLE: Final = ("pasta", "passt", "pesto")
COMMANDS: Final = ("run", "attach", "serve", "qemu", "ctl", "policy", "replay", "completion", *_COMPATIBLE)

_NO_MEMORY: Final = "there is too little memory; allow more, for example: ulimit -v unlimited"

_UNSET: Final = "error return without exception set"
"""The text of the SystemError that Python raises if there is too little memory for the MemoryError."""
"""As in `output.report`, which may not be loadable then."""

_WORDS: Final = {
    "TCP": "-t",
    "UDP": "-u",
    "TCP (inbound=False)": "-T",
    "UDP (inbound=False)": "-U",
    "ifname=": "-I",
    "root=True": "--root",
    "host_processes=True": "--host-processes",
    "Forwards(freebind=True)": "--freebind",
    "ExistingNamespace(user=PATH)": "--userns",
    "use_vhost_user=False": "--link stream",
    "allow_unsealed=True": "--allow-unsealed",
    "as command[0]": "by --qemu PROGRAM",
}
"""Argument of the library -> option."""

_SIGNALLED: Final = 128
"""The exit status of a command that a signal ended is this plus the signal's number, as in shells."""


def dispatch(arguments: Sequence[str]) -> NoReturn:
    """Run a command, and exit.

    Args:
        arguments: the words after the program's name.
    """
    # If the caller ignores SIGCHLD, this process inherits that, and the status of its children would be lost
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    close_unnamed(arguments, os.environ)
    use_words(_WORDS)
    try:
        _require_memory()
        status = _do(arguments)
    except SystemExit as end:  # argparse has printed the help
        status = int(end.code or 0)
    except KeyboardInterrupt:
        status = -signal.SIGINT
    except Exception as error:
        # Python 3.11 raises a RuntimeError from the interrupt if Ctrl-C comes while a class is made (__set_name__)
        status = -signal.SIGINT if isinstance(error.__cause__, KeyboardInterrupt) else _explain(error)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # None if it was closed when the process started
            with contextlib.suppress(OSError):
                stream.flush()
    if status < 0:
        status = _die(-status) if _may_be_typed(-status) else _SIGNALLED - status
    os._exit(status)


def _require_memory() -> None:
    """Raise `MemoryError` if the limit on memory is too low to load the program.

    Without this check, libraries fail in the middle with messages of their own.
    """
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < _MIN_MEMORY:
        raise MemoryError


def _do(arguments: Sequence[str]) -> int:
    load_socket()
    if arguments and arguments[0] not in ("run", *_COMPATIBLE):  # these parse command lines themselves
        load_argparse()
    match arguments:
        case ["run", *rest]:
            _end_by_interrupt()
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
        case ["policy", *rest]:
            from sansnet_cli.policy.command import policy

            return policy(rest)
        case ["replay", *rest]:
            from sansnet_cli.replay.command import replay

            return replay(rest)
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


def _end_by_interrupt() -> None:
    """Let SIGINT end this process, as SIGTERM does, until `CommandSignals` takes both.

    Python's own handler raises KeyboardInterrupt, which is lost if that is in a callback, such as those of imports. The
    first process of a container keeps it, since the kernel lets no signal without a handler end that.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler and os.getpid() != 1:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _may_be_typed(number: int) -> bool:
    """Whether a signal that ended the command may come from a key of the terminal, as Ctrl-C does."""
    if number not in (signal.SIGINT, signal.SIGQUIT):
        return False
    from sansnet_cli.process import terminal

    return terminal.foreground_group() == os.getpgrp()


def _die(number: int) -> int:
    """End by the signal that ended the command, so that a shell that runs sansnet in a loop ends on Ctrl-C.

    Returns:
        The exit status for the same, if the kernel does not let the signal end this process, such as the first process
        of a container.
    """
    from sansnet_trio.linux import syscalls

    syscalls.forbid_dump()
    with contextlib.suppress(OSError):  # SIGKILL has no other action
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    signal.raise_signal(number)
    return _SIGNALLED + number


def _explain(error: Exception) -> int:
    """Print the message of an error, and return the exit status for it.

    Raises:
        Exception: the error itself, if it is a fault of the program.
    """
    if isinstance(error, MemoryError) or str(error) == _UNSET:
        return _complain(_NO_MEMORY, 1)
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
    """The error itself, or a `MemoryError` if one of its causes is a lack of memory."""
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
