"""The namespaces that the programs run in, and processes inside them.

    guest                program under test          host namespace         upstream namespace
    198.51.100.2 or      (pasta, slirp4netns,        198.51.100.2/24        198.51.100.1/24, 203.0.113.1/32
    10.0.2.100           sansnet)                    eth0 ----- veth ------ eth0
    tap  <------ frames ------>  host sockets ------------>                 servers

A namespace lives as long as a `cat` that reads from a pipe of this process. When this process ends for any reason, the
pipe closes, the `cat` ends, and the kernel removes the namespace with its interfaces.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Final, TypeVar

__all__ = [
    "HOST",
    "PORT",
    "SERVER",
    "CellFailed",
    "Laboratory",
    "Namespace",
    "Process",
    "Traffic",
    "build_traffic",
    "descendants",
    "find_cat",
    "missing",
    "wait_for",
]

SERVER: Final = "203.0.113.1"
"""The servers' address: neither the host's nor its gateway's, which the programs may treat in a special way."""

HOST: Final = "198.51.100.2"

_T = TypeVar("_T")

PORT: Final = 5001
"""The servers' port."""

SOURCES: Final = Path(__file__).with_name("traffic")


class CellFailed(Exception):
    """A measurement has no result; the message says why."""


class Process:
    """A child process. Its standard output is read line by line with a time limit."""

    def __init__(self, command: Sequence[str], *, pass_fds: Sequence[int] = ()) -> None:
        self.command = command
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=pass_fds
        )
        self.pid = self._child.pid

    @property
    def _pipes(self) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
        stdin, stdout, stderr = self._child.stdin, self._child.stdout, self._child.stderr
        assert stdin is not None
        assert stdout is not None
        assert stderr is not None
        return stdin, stdout, stderr

    def running(self) -> bool:
        return self._child.poll() is None

    def tell(self, line: str) -> None:
        stdin, _, _ = self._pipes
        stdin.write(line.encode() + b"\n")
        stdin.flush()

    def read_line(self, timeout: float) -> str:
        """The next line of output.

        Raises:
            CellFailed: none came within `timeout` seconds, or the process has ended.
        """
        _, stdout, _ = self._pipes
        if not select.select([stdout], [], [], timeout)[0]:
            raise CellFailed(f"no answer within {timeout:.0f} s")
        line = stdout.readline().decode().strip()
        if not line:
            raise CellFailed(self.complaint())
        return line

    def complaint(self) -> str:
        """The last line of standard error of a process that is ending."""
        _, _, stderr = self._pipes
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(1)
        lines = stderr.read().decode(errors="replace").strip().splitlines() if not self.running() else []
        return lines[-1] if lines else f"{self.command[0]} ended without a message"

    def wait(self, timeout: float) -> int:
        """Exit status.

        Raises:
            CellFailed: still running after `timeout` seconds.
        """
        try:
            return self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise CellFailed(f"still running after {timeout:.0f} s") from None

    def end(self, patience: float = 0.0) -> None:
        """Close the standard input; send SIGTERM after `patience` seconds, and SIGKILL after three more."""
        pipes = self._pipes
        with contextlib.suppress(BrokenPipeError):
            pipes[0].close()
        for act, limit in ((None, patience), (self._child.terminate, 3.0), (self._child.kill, None)):
            if act is not None:
                act()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(limit)
                break
        for pipe in pipes[1:]:
            pipe.close()


class Namespace:
    """A network namespace, identified by a process in it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._enter = ("nsenter", f"--net=/proc/{pid}/ns/net")

    def command(self, arguments: Sequence[str]) -> list[str]:
        """The command line that runs `arguments` in this namespace; the process keeps its id."""
        return [*self._enter, *arguments]

    def ip(self, arguments: str) -> None:
        subprocess.run(self.command(["ip", *arguments.split()]), check=True)

    def set(self, name: str, value: str) -> None:
        """Write a sysctl of this namespace."""
        script = f"echo '{value}' > /proc/sys/{name}"
        subprocess.run(self.command(["sh", "-c", script]), check=True)


@dataclass(frozen=True, slots=True)
class Traffic:
    """The task of both ends of a measurement (see `traffic/main.c`).

    Attributes:
        kind: such as `tcp-up`.
        seconds: of traffic that is counted.
        size: of a datagram, in bytes.
        count: number of connections.
    """

    kind: str
    seconds: float = 0
    size: int = 1
    count: int = 1


class Laboratory:
    """The host and upstream namespaces, joined by a veth pair, and the ends of the traffic."""

    def __init__(self, host: Namespace, upstream: Namespace, tool: Path) -> None:
        self.host = host
        self.upstream = upstream
        self._tool = tool

    @classmethod
    @contextlib.contextmanager
    def build(cls) -> Iterator[Laboratory]:
        with contextlib.ExitStack() as stack:
            directory = stack.enter_context(tempfile.TemporaryDirectory())
            spaces = []
            for _ in range(2):
                holder = Process(["unshare", "--net", "cat"])
                stack.callback(holder.end, 1.0)
                spaces.append(Namespace(wait_for(partial(find_cat, holder.pid), "unshare made no namespace")))
            host, upstream = spaces
            host.ip(f"link add eth0 type veth peer name eth0 netns {upstream.pid}")
            for space, addresses in ((host, [f"{HOST}/24"]), (upstream, ["198.51.100.1/24", f"{SERVER}/32"])):
                space.set("net/ipv6/conf/eth0/disable_ipv6", "1")
                space.ip("link set lo up")
                for address in addresses:
                    space.ip(f"address add {address} dev eth0")
                space.ip("link set eth0 up")
            host.ip("route add default via 198.51.100.1")
            # Thousands of short connections to one port, round after round, must not run out of host ports.
            host.set("net/ipv4/ip_local_port_range", "10000 65535")
            upstream.set("net/ipv4/ip_local_port_range", "10000 65535")
            yield cls(host, upstream, build_traffic(Path(directory)))

    @contextlib.contextmanager
    def end(self, where: Namespace, role: str, traffic: Traffic, address: str = SERVER) -> Iterator[Process]:
        """One end of the traffic, which is to `serve` or to `connect`; a server already listens when this returns."""
        dying = ["setpriv", "--pdeathsig", "KILL"]  # else a server would wait for long after the benchmark was killed
        words = [role, traffic.kind, address, PORT, traffic.seconds, traffic.size, traffic.count]
        process = Process(where.command([*dying, str(self._tool), *map(str, words)]))
        try:
            if role == "serve":
                process.read_line(10)
            yield process
        finally:
            process.end()


def missing(*programs: str) -> str | None:
    """A sentence about what the measurements lack here; None if nothing.

    Args:
        programs: that they run.
    """
    if os.geteuid() != 0:
        return "network namespaces need root: run it with sudo"
    lacking = [program for program in ("unshare", "ip", *programs) if shutil.which(program) is None]
    return f"install {' and '.join(lacking)}" if lacking else None


def build_traffic(directory: Path) -> Path:
    """Compile the ends of the traffic.

    Raises:
        FileNotFoundError: there is no gcc.
    """
    tool = directory / "traffic"
    options = ["-O2", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-static"]
    subprocess.run(["gcc", *options, "-o", tool, *sorted(SOURCES.glob("*.c"))], check=True)
    return tool


def name_of(pid: int) -> str:
    """The name of a process, empty if there is none."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def descendants(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError):  # it has ended meanwhile
            for task in Path(f"/proc/{each}/task").glob("*/children"):
                found += [int(child) for child in task.read_text().split()]
    return found


def find_cat(pid: int) -> int | None:
    """The descendant of `pid` (or `pid` itself) that has become a `cat`, which means that its namespace is ready."""
    return next((each for each in descendants(pid) if name_of(each) == "cat"), None)


def wait_for(look: Callable[[], _T | None], complaint: str, timeout: float = 10.0) -> _T:
    """Call `look` until its result is true, and return that.

    Raises:
        CellFailed: with `complaint`, when `timeout` seconds have passed.
    """
    end = time.monotonic() + timeout
    while not (found := look()):
        if time.monotonic() > end:
            raise CellFailed(complaint)
        time.sleep(0.01)
    return found
