"""To become another program, and why that may fail."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence
from typing import NoReturn

from sansnet_trio.guests import CommandNotExecutable, CommandNotFound

__all__ = ["execute"]


def execute(command: Sequence[str]) -> NoReturn:
    """Become the command, with descriptors 0 to 2 and nothing else."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):  # one of them was of the list itself
                os.set_inheritable(int(name), False)
    program = command[0]
    try:
        if not program:
            raise FileNotFoundError
        os.execvp(program, list(command))
    except (FileNotFoundError, NotADirectoryError) as error:
        if os.path.exists(program):
            message = f"{program}: the interpreter that its first line names does not exist"
        else:
            place = " and PATH" if "/" not in program else ""
            message = f"{program or repr(program)}: command not found; check the name{place}"
        raise CommandNotFound(message) from error
    except OSError as error:
        raise CommandNotExecutable(f"{program} cannot be executed: {_why_not_executed(program, error)}") from error


def _why_not_executed(program: str, error: OSError) -> str:
    if os.path.isdir(program):
        return "it is a directory; give a program"
    match error.errno:
        case errno.EACCES:
            return "no permission; make it executable (chmod +x)"
        case errno.ENOEXEC:
            return "it is no program for this machine; a script names its interpreter in its first line, as #!/bin/sh"
        case _:
            return str(error.strerror)
