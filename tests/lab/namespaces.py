"""Namespaces that live as long as a process, and work done inside them."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

__all__ = ["Namespace", "eventually", "held_namespace", "running"]

T = TypeVar("T")

_CLONE_NEWNET: Final = 0x40000000
_libc: Final = ctypes.CDLL(None, use_errno=True)


def eventually(condition: Callable[[], bool], *, seconds: float = 10.0) -> bool:
    """Whether a condition comes true within some seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class Namespace:
    """The network and mount namespaces of a process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def command(self, *command: str) -> list[str]:
        """The command line that runs a command in here; it becomes that command, with the same process id."""
        return ["nsenter", "--target", str(self.pid), "--net", "--mount", "--", *command]

    def run(
        self, *command: str, timeout: float = 60.0, check: bool = True, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in here.

        Raises:
            AssertionError: it failed, and `check` was not turned off. The message has its output.
        """
        options = {"stdin": subprocess.DEVNULL} | options if "input" not in options else options
        done = subprocess.run(
            self.command(*command), timeout=timeout, text=True, check=False, capture_output=True, **options
        )
        if check and done.returncode:
            raise AssertionError(f"{command}: status {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
        return done

    def shell(self, script: str, *, timeout: float = 60.0, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a shell script in here."""
        return self.run("sh", "-ec", script, timeout=timeout, check=check)

    def call(self, function: Callable[[], T], *, timeout: float = 60.0) -> T:
        """Call a function in this network namespace, in a thread. Sockets that it opens stay in the namespace."""
        result: list[T] = []
        failure: list[BaseException] = []

        def work() -> None:
            try:
                fd = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    if _libc.setns(fd, _CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "setns")
                finally:
                    os.close(fd)
                result.append(function())
            except BaseException as error:  # the caller gets it
                failure.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(timeout)
        if failure:
            raise failure[0]
        if not result:
            raise TimeoutError(f"the call did not return within {timeout} s")
        return result[0]

    def open_socket(self, family: int, type: int, *, timeout: float = 20.0) -> socket.socket:
        """A new socket in this network namespace."""
        made = self.call(lambda: socket.socket(family, type))
        made.settimeout(timeout)
        return made

    def listen(self, address: str, port: int = 0, *, backlog: int = 1024) -> socket.socket:
        """A listening stream socket in here; port 0 for any free one."""
        listener = self.open_socket(_family(address), socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(_bindable(address, port))
        listener.listen(backlog)
        return listener

    def datagram(self, address: str, port: int = 0) -> socket.socket:
        """A bound datagram socket in here; port 0 for any free one."""
        made = self.open_socket(_family(address), socket.SOCK_DGRAM)
        made.bind(_bindable(address, port))
        return made

    def connect(self, address: str, port: int, *, receive_buffer: int = 0) -> socket.socket:
        """A stream socket in here, connected. A receive buffer in bytes turns off the kernel's automatic size."""
        stream = self.open_socket(_family(address), socket.SOCK_STREAM)
        try:
            if receive_buffer:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            stream.connect((address, port))
        except BaseException:
            stream.close()
            raise
        return stream

    def counter(self, protocol: str, name: str) -> int:
        """A counter of this namespace's own stack: `Tcp` and others of /proc/net/snmp, or `TcpExt`."""
        table = "netstat" if protocol.endswith("Ext") else "snmp"
        with open(f"/proc/{self.pid}/net/{table}") as file:
            lines = [line.split() for line in file if line.startswith(f"{protocol}:")]
        return int(dict(zip(lines[0], lines[1], strict=True))[name])


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _bindable(address: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """For `bind`; an address may have the index of an interface as its zone."""
    plain, _, zone = address.partition("%")
    return (plain, port, 0, int(zone)) if zone else (plain, port)


@contextmanager
def running(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that is ended, by its id, at the end of the block."""
    process: subprocess.Popen[str] = subprocess.Popen(command, text=True, **options)
    try:
        yield process
    finally:
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def held_namespace() -> Iterator[Namespace]:
    """New network and mount namespaces, gone at the end of the block or with this process."""
    # cat ends when the other end of the pipe is closed, even by SIGKILL; its echo tells that unshare is done.
    command = ["unshare", "--net", "--mount", "cat"]
    with running(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write("made\n")
        holder.stdin.flush()
        if holder.stdout.readline() != "made\n":
            raise RuntimeError("cannot make a network namespace: these tests need root")
        namespace = Namespace(holder.pid)
        namespace.shell("ip link set lo up")
        yield namespace
