"""The command `sansnet`.

Start-up is fast because each module is loaded only when it is needed. This one does not even load `typing`, because
callers often ask for the version. Then come the modules of the command, before the fork of a guest only those that the
guest needs, and trio after the fork. Loading makes no garbage, so the garbage collector is off until it is done. The
process ends without the interpreter's clean-up, because the kernel frees everything anyway.
"""

from __future__ import annotations

import gc
import os
import sys

TYPE_CHECKING = False  # as in `typing`, which is not loaded
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final, NoReturn

__all__ = ["main"]

_HELP: Final = """\
usage: sansnet run [OPTIONS] [--] [COMMAND [ARG...]]
       sansnet attach [OPTIONS] (PID | --netns PATH|NAME)
       sansnet serve [--vhost-user] [--socket PATH | --fd FD] [OPTIONS]
       sansnet qemu [OPTIONS] -- QEMU-ARGUMENT...
       sansnet ctl PATH COMMAND [OPTIONS]
       sansnet policy (check|explain|test|show) [FILE] [OPTIONS]
       sansnet replay FILE [OPTIONS]
       sansnet completion SHELL
       sansnet (pasta|passt|pesto) ...

A network for guests without privileges: TCP, UDP and ping from a guest become
ordinary sockets of the host.

commands:
  run            run a command in a network namespace of its own
  attach         give a network to an existing namespace, such as a container's
  serve          give a network to a virtual machine (QEMU)
  qemu           run QEMU with such a network
  ctl            inspect a running sansnet, change its ports and rules
  policy         check, explain and test the rules about what a guest may reach
  replay         run a recording of a guest's network again
  completion     print a script for the completion of command lines in a shell
  pasta, passt, pesto
                 replace these programs for their callers

options:
  --version      print the version and exit
  -h, --help     print this and exit

`sansnet run --help` describes the options of a command.

examples:
  sansnet run                                # a shell with a network of its own
  sansnet run -- curl https://example.com/   # a command
  sansnet run -t 8080:80 -- ./server         # host port 8080 leads to 80
  sansnet run --allow example.com:443 -- curl https://example.com/   # no more
  sansnet attach 4242                        # the network of process 4242
  sansnet qemu -- -m 1G disk.qcow2           # a virtual machine
"""

_CANNOT_LOAD: Final = (
    b"sansnet: the program cannot be loaded; allow more memory and descriptors (ulimit -v unlimited -n 1024), "
    b"or install it again\n"
)


_COERCED: Final = ("C.UTF-8", "C.utf8", "UTF-8")
"""The values that Python gives to LC_CTYPE in the C locale (PEP 538)."""


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    try:
        _run()
    except KeyboardInterrupt:
        import signal

        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
    except (MemoryError, ImportError, OSError):  # OSError if modules cannot be opened, for example with ulimit -n 5
        os.write(2, _CANNOT_LOAD)  # no module for a better message can be loaded either
    os._exit(1)


def _run() -> NoReturn:
    gc.disable()
    _reserve_descriptors()
    # Loaded here, so that `main` handles Ctrl-C and a lack of memory meanwhile
    from sansnet_cli.compat import program_named
    from sansnet_cli.process.isolation import isolate

    isolate()
    _restore_locale()
    program = program_named(sys.argv[0])
    arguments = [program, *sys.argv[1:]] if program else sys.argv[1:]
    answer = _answer(arguments)
    if answer is None:
        from sansnet_cli.dispatch import dispatch

        dispatch(arguments)
    status = 0
    try:
        print(answer, end="", flush=True)
    except OSError as error:
        status = 1
        if not isinstance(error, BrokenPipeError):
            os.write(
                2,
                f"sansnet: cannot write to stdout ({error.strerror}); redirect it to a writable file\n".encode(),
            )
    os._exit(status)


def _reserve_descriptors() -> None:
    """If stdin, stdout or stderr is closed, occupy its number with /dev/null.

    So no file of ours becomes a standard stream. The number is closed on exec: the command sees it closed as before.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    if sys.stdout is None:  # Python sets a standard stream that is closed to None
        sys.stdout = os.fdopen(1, "w")
    if sys.stderr is None:  # print() would take stdout instead
        sys.stderr = os.fdopen(2, "w")


def _restore_locale() -> None:
    """Restore the caller's value of LC_CTYPE, which Python changes in the C locale (PEP 538)."""
    if os.environ.get("LC_CTYPE") not in _COERCED:
        return
    try:
        with open("/proc/self/environ", "rb") as file:
            environment = file.read().split(b"\0")
    except OSError:  # /proc is not mounted
        return
    name = b"LC_CTYPE="
    value = next((entry for entry in environment if entry.startswith(name)), None)
    if value is None:
        del os.environ["LC_CTYPE"]
    else:
        os.environb[b"LC_CTYPE"] = value.removeprefix(name)


def _answer(arguments: Sequence[str]) -> str | None:
    """The text to print, if the arguments ask for the help or the version; otherwise None."""
    match arguments:
        case ["-h" | "--help" | "help", *_]:
            return _HELP
        case ["--version" | "version", *_]:
            from sansnet_cli.version import version

            return f"{version()}\n"
        case ["pasta" | "passt" | "pesto" as program, "--version", *_]:
            from sansnet_cli.compat import version_of

            return version_of(program)
        case _:
            return None
