"""The programs under test: how each one is found, started and told about the MTU."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from laboratory import PORT, CellFailed, Laboratory, Namespace, Process, descendants, find_cat, wait_for
from meter import Meter
from references import RELEASES, Release

__all__ = [
    "PROGRAMS",
    "Guest",
    "Installed",
    "Program",
    "Wrapper",
    "first_line",
    "run_to_end",
    "sansnet",
    "sansnet_command",
]

START_LIMIT: Final = 15.0
"""Seconds that a program may take until its guest runs."""


class Usage(Protocol):
    """A measurement of a program that has begun."""

    def used(self) -> float:
        """Seconds of processor time so far, if nothing else is measured."""


class Guest:
    """A running guest.

    Attributes:
        namespace: where the guest's processes run.
        program: process id of the program that serves it; None if there is none.
    """

    def __init__(self, namespace: Namespace, program: int | None) -> None:
        self.namespace = namespace
        self.program = program

    def processes(self) -> list[int]:
        """Those of the program, without the guest's."""
        if self.program is None:
            return []
        return [pid for pid in descendants(self.program) if pid != self.namespace.pid]

    def meter(self) -> Usage:
        """Begins to measure the processor time of the program."""
        return Meter(self.processes)


class Program(Protocol):
    """One way to give a guest a network."""

    name: str

    def missing(self) -> str | None:
        """A sentence about a missing package, or None."""

    def version(self) -> str: ...

    def guest(
        self, laboratory: Laboratory, mtu: int, *, forwards: bool = False
    ) -> contextlib.AbstractContextManager[Guest]:
        """A guest whose network is ready. With `forwards`, the server's port leads to it.

        Raises:
            CellFailed: the guest did not start.
        """

    def run_true(self, laboratory: Laboratory) -> None:
        """Run `true` in a new guest, to its end."""

    def compatible(self) -> list[str] | None:
        """The beginning of a command line that accepts pasta's options; None if the program has none."""


def first_line(command: Sequence[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return next(iter((result.stdout or result.stderr).splitlines()), "")


class Source(Protocol):
    """Where a program comes from."""

    def missing(self) -> str | None:
        """A sentence that says why it cannot run; None if it can."""

    def command(self) -> list[str]:
        """The beginning of its command line."""

    def version(self) -> str: ...


class Packaged:
    """A program of a release of Debian."""

    def __init__(self, release: Release, program: str) -> None:
        self._release = release
        self._program = program

    def missing(self) -> str | None:
        return self._release.missing()

    def command(self) -> list[str]:
        return self._release.command(self._program)

    def version(self) -> str:
        return self._release.version(self._program)


class Installed:
    """A program of this machine, by the beginning of its command line."""

    def __init__(self, *words: str) -> None:
        self._words = words

    def missing(self) -> str | None:
        return None if shutil.which(self._words[0]) else f"{self._words[0]} is not installed"

    def command(self) -> list[str]:
        return list(self._words)

    def version(self) -> str:
        return first_line([*self._words, "--version"])


class Direct:
    """No program: the guest's end runs in the host namespace. This measures the limit of the two ends."""

    name = "direct"

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        return "no program in between"

    @contextlib.contextmanager
    def guest(self, laboratory: Laboratory, mtu: int, *, forwards: bool = False) -> Iterator[Guest]:
        yield Guest(laboratory.host, None)

    def run_true(self, laboratory: Laboratory) -> None:
        run_to_end(laboratory.host.command(["true"]))

    def compatible(self) -> list[str] | None:
        return None


class Wrapper:
    """A program that makes a namespace and runs a command in it: `pasta OPTIONS -- COMMAND`."""

    def __init__(
        self,
        name: str,
        source: Source,
        options: Sequence[str],
        *,
        closed: Sequence[str] = (),
        compatible: Sequence[str] = (),
    ) -> None:
        """A program, and its options.

        Args:
            name: of its column.
            source: where it comes from.
            options: for every guest.
            closed: for a guest without forwarded ports.
            compatible: those that make it accept pasta's command line.
        """
        self.name = name
        self._source = source
        self._options = options
        self._closed = closed
        self._compatible = compatible

    def missing(self) -> str | None:
        return self._source.missing()

    def version(self) -> str:
        return self._source.version()

    def _command(self, laboratory: Laboratory, mtu: int, command: str, *, forwards: bool = False) -> list[str]:
        options = [option.format(mtu=mtu) for option in self._options]
        options += FORWARDED_PORTS if forwards else self._closed
        return laboratory.host.command([*self._source.command(), *options, "--", command])

    @contextlib.contextmanager
    def guest(self, laboratory: Laboratory, mtu: int, *, forwards: bool = False) -> Iterator[Guest]:
        process = Process(self._command(laboratory, mtu, "cat", forwards=forwards))
        try:

            def look() -> int | None:
                if not process.running():
                    raise CellFailed(process.complaint())
                return find_cat(process.pid)

            pid = wait_for(look, f"{self.name} started no guest", START_LIMIT)
            yield Guest(Namespace(pid), process.pid)
        finally:
            process.end(3.0)

    def run_true(self, laboratory: Laboratory) -> None:
        run_to_end(self._command(laboratory, 65520, "true"))

    def compatible(self) -> list[str] | None:
        return [*self._source.command(), *self._compatible]


class Slirp4netns:
    """A program that joins an existing namespace."""

    def __init__(self, name: str, source: Source) -> None:
        self.name = name
        self._source = source

    def missing(self) -> str | None:
        return self._source.missing()

    def version(self) -> str:
        return self._source.version()

    @contextlib.contextmanager
    def _attached(self, laboratory: Laboratory, mtu: int, command: Sequence[str]) -> Iterator[tuple[Process, Process]]:
        """A command in new namespaces, and the program that now serves it."""
        unshare = ["unshare", "--user", "--map-root-user", "--net"]
        with contextlib.ExitStack() as stack:
            command_process = Process(laboratory.host.command([*unshare, *command]))
            stack.callback(command_process.end, 3.0)
            own = os.readlink("/proc/self/ns/net")
            host = os.readlink(f"/proc/{laboratory.host.pid}/ns/net")
            wait_for(
                lambda: os.readlink(f"/proc/{command_process.pid}/ns/net") not in (own, host),
                "unshare made no namespace",
            )
            ready, ready_end = os.pipe()
            exit_end, ours = os.pipe()  # the program ends when our end is closed, also if this process is killed
            stack.callback(os.close, ours)
            try:
                descriptors = [f"--ready-fd={ready_end}", f"--exit-fd={exit_end}"]
                options = ["--configure", f"--mtu={mtu}", *descriptors, str(command_process.pid), "tap0"]
                program = Process(
                    laboratory.host.command([*self._source.command(), *options]), pass_fds=[ready_end, exit_end]
                )
            finally:
                os.close(ready_end)
                os.close(exit_end)
            stack.callback(program.end)
            with open(ready, "rb") as pipe:
                if not pipe.read(1):
                    raise CellFailed(program.complaint())
            yield command_process, program

    @contextlib.contextmanager
    def guest(self, laboratory: Laboratory, mtu: int, *, forwards: bool = False) -> Iterator[Guest]:
        if forwards:
            raise CellFailed("forwards ports only on request over its own socket")
        with self._attached(laboratory, mtu, ["cat"]) as (command, program):
            pid = wait_for(partial(find_cat, command.pid), "unshare started no guest")
            yield Guest(Namespace(pid), program.pid)

    def run_true(self, laboratory: Laboratory) -> None:
        with self._attached(laboratory, 65520, ["sh", "-c", "read line; true"]) as (command, _):
            command.tell("go")
            if status := command.wait(START_LIMIT):
                raise CellFailed(f"exit status {status}")

    def compatible(self) -> list[str] | None:
        return None


def run_to_end(command: Sequence[str]) -> None:
    """Run a command that must succeed.

    Raises:
        CellFailed: it failed.
    """
    try:
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=START_LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        raise CellFailed(f"still running after {START_LIMIT:.0f} s") from None
    if result.returncode:
        raise CellFailed(next(reversed(result.stderr.strip().splitlines()), f"exit status {result.returncode}"))


# As root, Debian 12's version would become `nobody`, and then could not open its own child's namespace.
AS_ROOT: Final = ["--runas", "0:0"]
# The gateway is not mapped, so traffic without forwards uses the tap and not the loopback path.
PASTA_OPTIONS: Final = ["--foreground", *AS_ROOT, "--config-net", "--no-map-gw", "-T", "none", "-U", "none"]
FORWARDED_PORTS: Final = ["-t", str(PORT), "-u", str(PORT)]


def sansnet_command(words: str) -> list[str]:
    """The beginning of a command line of a build of sansnet.

    Args:
        words: a Python interpreter that it is installed for, or that beginning itself.
    """
    first, *others = shlex.split(words)
    script = Path(first).with_name("sansnet")
    is_interpreter = not others and Path(first).name.startswith("python") and script.exists()
    return [str(script)] if is_interpreter else [first, *others]


def sansnet(name: str, words: str) -> Program:
    """A column for a build of sansnet (see `sansnet_command`)."""
    options = ["run", "--mtu", "{mtu}"]
    return Wrapper(name, Installed(*sansnet_command(words)), options, compatible=["pasta"])


def _pasta(release: Release) -> Program:
    source, options = Packaged(release, "pasta"), [*PASTA_OPTIONS, "--mtu", "{mtu}"]
    closed = ["-t", "none", "-u", "none"]
    return Wrapper(f"pasta-{release.number}", source, options, closed=closed, compatible=AS_ROOT)


PROGRAMS: Final[tuple[Program, ...]] = (
    Direct(),
    *(_pasta(release) for release in RELEASES.values()),
    *(Slirp4netns(f"slirp4netns-{release.number}", Packaged(release, "slirp4netns")) for release in RELEASES.values()),
    sansnet("sansnet", sys.executable),
)
