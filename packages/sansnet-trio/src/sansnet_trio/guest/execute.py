"""Executing a command, and explaining why it fails."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, NoReturn

from sansnet_trio.guest.errors import CommandNotExecutable, CommandNotFound, GuestError

__all__ = ["Program", "execute", "is_found"]

_SHELL_WORDS: Final = (
    ". alias bg case cd command eval exec export fg for if jobs read set source ulimit umask unset while"
)
"""Built-in commands and reserved words of shells."""


class Program(NamedTuple):
    """A command, and the state of the process in which it begins.

    Attributes:
        command: the program, looked up in PATH, and its arguments.
        env: its environment; None is ours.
        cwd: its working directory; None is ours.
        streams: descriptors that become its 0, 1 and 2; None keeps ours.
    """

    command: Sequence[str]
    env: Mapping[str, str] | None = None
    cwd: str | None = None
    streams: tuple[int | None, int | None, int | None] = (None, None, None)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The descriptors of the streams."""
        return tuple(stream for stream in self.streams if stream is not None)


def execute(started: Program) -> NoReturn:
    """Replace this process by a command, which gets descriptors 0 to 2 only.

    Raises:
        CommandNotFound: there is no such program, or no interpreter for it.
        CommandNotExecutable: it cannot be executed.
        GuestError: the working directory cannot be entered.
    """
    _redirect(started)
    if started.cwd is not None:
        try:
            os.chdir(started.cwd)
        except OSError as error:
            problem = f"the working directory {started.cwd!r} cannot be entered ({error.strerror})"
            raise GuestError(f"{problem}; give another one") from error
    command, env = started.command, started.env
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them
        signal.signal(number, signal.SIG_DFL)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):  # one of them was the descriptor of the listing
                os.set_inheritable(int(name), False)
    program = command[0]
    try:
        if not program:
            raise FileNotFoundError
        if env is None:  # with entries that os.environ does not have: without a "=", or twice
            os.execvp(program, list(command))
        os.execvpe(program, list(command), env)
    except OSError as error:
        if not is_found(program, env):
            shown = program if program.isprintable() and program else repr(program)
            raise CommandNotFound(f"{shown}: command not found; {_remedy(program)}") from error
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            message = f"{program}: the interpreter that its first line names does not exist"
            raise CommandNotFound(message) from error
        raise CommandNotExecutable(f"{program} cannot be executed: {_execution_problem(program, error)}") from error


def _redirect(started: Program) -> None:
    """Give this process the streams. Each one may have the number of another."""
    copies = [None if own is None else fcntl.fcntl(own, fcntl.F_DUPFD_CLOEXEC, 3) for own in started.streams]
    for number, copy in enumerate(copies):
        if copy is not None:
            os.dup2(copy, number)


def is_found(program: str, env: Mapping[str, str] | None = None) -> bool:
    """Whether the program exists: in a directory of PATH, or at its path if the name has a slash.

    The error of execvp(3) does not tell: for a missing program it is "permission denied" if we may not search one
    directory of PATH, for example one in another user's home.
    """
    places = [""] if "/" in program else os.get_exec_path(env)
    return bool(program) and any(os.path.exists(os.path.join(place, program)) for place in places)


def _remedy(program: str) -> str:
    """The remedy for a program that is not found."""
    import re
    import shlex

    if len(program.split()) > 1:
        line = f", or give the line to a shell: sh -c {shlex.quote(program)}" if program.isprintable() else ""
        return f"it has spaces in it: give the words of a command one by one, not in quotes{line}"
    if re.match(r"\w+=", program):
        return f"to set a variable, give the command to env: env {program} COMMAND"
    if program in _SHELL_WORDS.split():
        return f"it is built into shells; give the line to a shell: sh -c '{program} ...'"
    return f"check the name{' and PATH' if '/' not in program else ''}"


def _execution_problem(program: str, error: OSError) -> str:
    if os.path.isdir(program):
        return "it is a directory; give a program"
    match error.errno:
        case errno.EACCES:
            return "no permission; make it executable (chmod +x)"
        case errno.ENOEXEC:
            return "it is not a program for this computer; a script names its interpreter in its first line: #!/bin/sh"
        case _:
            return str(error.strerror)
