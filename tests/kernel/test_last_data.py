"""Data that a command has sent before it ended, and that the remote host takes slowly."""

from __future__ import annotations

import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final

import pytest

from tests.lab import SERVER4, USER, Lab
from tests.lab.terminals import terminal

SIZE: Final = 3_000_000
SENDER: Final = f"""
import socket
with socket.create_connection(("{SERVER4}", 8500)) as stream:
    stream.sendall(b"x" * {SIZE})
"""
COMMAND: Final = [sys.executable, "-c", SENDER]
LOSS: Final = "sansnet: the command has ended, and the host did not take at least "
LOST: Final = " bytes that it had sent\n"
MANY: Final = 800
MANY_SENDERS: Final = f"""
import os, resource, socket
limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
streams = [socket.create_connection(("{SERVER4}", 8500)) for _ in range({MANY})]
for stream in streams:
    stream.sendall(bytes(20_000))
os._exit(0)
"""

FILLER: Final = f"""
import socket
stream = socket.create_connection(("{SERVER4}", 8500))
stream.settimeout(2)
sent = 0
try:
    while True:
        sent += stream.send(bytes(1 << 16))
except TimeoutError:
    print(sent)
"""
"""It sends as much as its kernel takes."""


@contextmanager
def listening(lab: Lab) -> Iterator[socket.socket]:
    """A listener whose connections have small buffers, so that most of the data stays with sansnet."""
    with closing(lab.upstream.open_socket(socket.AF_INET, socket.SOCK_STREAM)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((SERVER4, 8500))
        listener.listen(MANY)
        listener.settimeout(30)
        yield listener


def take_late(listener: socket.socket, received: list[int]) -> None:
    """Accept a connection, and read it to its end after the command has ended for long."""
    stream, _ = listener.accept()
    with stream:
        stream.settimeout(30)
        time.sleep(2.0)
        size = 0
        while data := stream.recv(1 << 16):
            size += len(data)
        received.append(size)


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
def test_a_slow_host_gets_all_data_of_a_command_that_has_ended(lab: Lab, user: int | None) -> None:
    received: list[int] = []
    with listening(lab) as listener:
        thread = threading.Thread(target=take_late, args=(listener, received))
        thread.start()
        done = lab.sansnet([], COMMAND, user=user)
        thread.join(60)
    assert (done.returncode, received) == (0, [SIZE])
    assert LOST not in done.stderr


def test_the_kernel_of_a_guest_ends_many_connections(lab: Lab) -> None:
    """All send their last data and FIN at once, more than the tap holds: the guest's kernel has to repeat some."""
    sizes: list[int] = []

    def take() -> None:
        for _ in range(MANY):
            with listener.accept()[0] as stream:
                stream.settimeout(30)
                sizes.append(sum(map(len, iter(lambda: stream.recv(1 << 16), b""))))  # a reset is an error

    with listening(lab) as listener:
        thread = threading.Thread(target=take)
        thread.start()
        done = lab.sansnet([], [sys.executable, "-c", MANY_SENDERS])
        thread.join(60)
    assert (done.returncode, sizes) == (0, [20_000] * MANY)
    assert "has ended, " not in done.stderr


def test_data_that_the_kernel_of_a_guest_still_holds_get_through_a_bad_network(lab: Lab) -> None:
    """While an acknowledgment is on its way, sansnet holds nothing, and the guest's kernel still has data."""
    command = lab.sansnet_command(["--delay", "100ms"], [sys.executable, "-c", FILLER], user=None, before="")
    pipe = subprocess.PIPE
    with listening(lab) as listener, subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        stream, _ = listener.accept()
        stream.settimeout(30)
        assert process.stdout is not None
        assert process.stderr is not None
        sent = int(process.stdout.readline())
        assert "Ctrl-C" in process.stderr.readline()
        with stream:
            received = sum(map(len, iter(lambda: stream.recv(1 << 16), b"")))
        assert (process.wait(30), process.stderr.read()) == (0, "")
    assert received == sent


def test_data_are_lost_and_told_if_the_host_resets_during_the_wait(lab: Lab) -> None:
    command = lab.sansnet_command([], COMMAND, user=None, before="")
    with listening(lab) as listener, subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        stream, _ = listener.accept()
        assert process.stderr is not None
        assert "Ctrl-C" in process.stderr.readline()
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.close()
        told = process.stderr.read()
        assert process.wait(30) == 0
    assert told.startswith(LOSS)
    assert told.endswith(LOST)


def test_ctrl_c_at_a_terminal_ends_the_wait(lab: Lab) -> None:
    command = lab.sansnet_command([], COMMAND, user=None, before="")
    with listening(lab) as listener, terminal(command) as made:
        stream, _ = listener.accept()
        made.expect("Ctrl-C ends that")
        made.type("\x03")
        made.expect(LOSS)
        assert made.process.wait(30) == 0
        stream.close()


@pytest.mark.parametrize("options", [[], ["--delay", "20ms"]], ids=["tap", "bad network"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_wait_and_the_loss_is_told(lab: Lab, options: list[str], number: signal.Signals) -> None:
    command = lab.sansnet_command(options, COMMAND, user=None, before="")
    with listening(lab) as listener, subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        stream, _ = listener.accept()  # and nothing is read
        assert process.stderr is not None
        assert "Ctrl-C" in process.stderr.readline()
        lab.host.shell(f"kill -{int(number)} {process.pid}")
        told = process.stderr.read()
        assert process.wait(30) == 0
        stream.close()
    assert told.startswith(LOSS)
    assert told.endswith(LOST)


def test_a_command_that_a_signal_has_ended_is_not_waited_for(lab: Lab) -> None:
    script = f"{shell_quoted()}; kill -TERM $$"
    with listening(lab) as listener:
        done = lab.sansnet([], ["sh", "-c", script])
        stream, _ = listener.accept()
        stream.close()
    assert done.returncode == 143
    assert "Ctrl-C" not in done.stderr


def shell_quoted() -> str:
    return f"{sys.executable} -c '{SENDER}'"
