"""The command `sansnet`.

Start-up is quick because nothing is loaded before it is needed: here not even `typing`, for callers ask for the version
often; then only what a command needs, before the fork of a guest what the guest needs, and trio when that is on its
way. Loading makes no garbage, so the collector waits until it is done; and the interpreter does not tidy up at the end
what the kernel frees anyway.
"""

from __future__ import annotations

import gc
import os
import sys

from sansnet_cli import __version__
from sansnet_cli.compat import program_named, version
from sansnet_cli.process.isolation import isolate

TYPE_CHECKING = False  # that of `typing`
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
       sansnet completion SHELL
       sansnet (pasta|passt|pesto) ...

A network for guests without privileges: TCP, UDP and ping from a guest become
ordinary sockets of the host.

commands:
  run            run a command in a network namespace of its own
  attach         give a network to a namespace that exists, as a container's
  serve          give a network to a virtual machine (QEMU)
  qemu           run QEMU with such a network
  ctl            show what one of these does, and forward other ports
  completion     print a script for the completion of command lines in a shell
  pasta, passt, pesto
                 take the place of these programs for their callers

options:
  --version      print the version and exit
  -h, --help     print this and exit

`sansnet run --help` says more, and so do the others.

examples:
  sansnet run                                # a shell with a network of its own
  sansnet run -- curl https://example.com/   # a command
  sansnet run -t 8080:80 -- ./server         # host port 8080 leads to 80
  sansnet attach 4242                        # the network of process 4242
  sansnet qemu -- -m 1G disk.qcow2           # a virtual machine
"""

_UNLOADED: Final = (
    b"sansnet: it cannot be loaded; allow more memory and descriptors (ulimit -v unlimited -n 1024), "
    b"or install it again\n"
)


_COERCED: Final = ("C.UTF-8", "C.utf8", "UTF-8")


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    gc.disable()
    _reserve_descriptors()
    isolate()
    _restore_locale()
    program = program_named(sys.argv[0])
    arguments = [program, *sys.argv[1:]] if program else sys.argv[1:]
    answer = _answer(arguments)
    if answer is None:
        _dispatch(arguments)
    status = 0
    try:
        print(answer, end="", flush=True)
    except OSError as error:
        status = 1
        if not isinstance(error, BrokenPipeError):
            os.write(
                2,
                f"sansnet: stdout cannot be written ({error.strerror}); redirect it to a file that takes it\n".encode(),
            )
    os._exit(status)


def _dispatch(arguments: Sequence[str]) -> NoReturn:
    try:
        from sansnet_cli.dispatch import dispatch

        dispatch(arguments)
    except KeyboardInterrupt:
        import signal

        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
    except (MemoryError, ImportError, OSError):  # the last one of files that are not opened, as by ulimit -n 5
        os.write(2, _UNLOADED)  # nothing else can be loaded to say it better
    os._exit(1)


def _reserve_descriptors() -> None:
    """Let nothing of ours become a standard stream that was closed before we began. The command has it closed too."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # is given the lowest number that is free, and closed on exec
    if sys.stderr is None:  # print() would take stdout instead
        sys.stderr = os.fdopen(2, "w")


def _restore_locale() -> None:
    """Give LC_CTYPE back the value that our caller gave it: in the C locale Python changes it (PEP 538)."""
    if os.environ.get("LC_CTYPE") not in _COERCED:
        return
    try:
        with open("/proc/self/environ", "rb") as file:
            given = file.read().split(b"\0")
    except OSError:  # there is no /proc here
        return
    name = b"LC_CTYPE="
    value = next((entry for entry in given if entry.startswith(name)), None)
    if value is None:
        del os.environ["LC_CTYPE"]
    else:
        os.environb[b"LC_CTYPE"] = value.removeprefix(name)


def _answer(arguments: Sequence[str]) -> str | None:
    """What is to be printed, if nothing else is asked for."""
    match arguments:
        case ["-h" | "--help" | "help", *_]:
            return _HELP
        case ["--version" | "version", *_]:
            return f"sansnet {__version__}\n"
        case ["pasta" | "passt" | "pesto" as program, "--version", *_]:
            return version(program)
        case _:
            return None
