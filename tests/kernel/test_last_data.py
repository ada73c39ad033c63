"""Data that a command has sent before it ended, and that the remote host takes slowly."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final

import pytest

from tests.lab import SERVER4, USER, Lab

SIZE: Final = 3_000_000
SENDER: Final = f"""
import socket
with socket.create_connection(("{SERVER4}", 8500)) as stream:
    stream.sendall(b"x" * {SIZE})
"""
COMMAND: Final = [sys.executable, "-c", SENDER]
LOST: Final = " bytes that it had sent\n"


@contextmanager
def listening(lab: Lab) -> Iterator[socket.socket]:
    """A listener whose connections have small buffers, so that most of the data stays with sansnet."""
    with closing(lab.upstream.open_socket(socket.AF_INET, socket.SOCK_STREAM)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((SERVER4, 8500))
        listener.listen()
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_wait_and_the_loss_is_told(lab: Lab, number: signal.Signals) -> None:
    command = lab.sansnet_command([], COMMAND, user=None, before="")
    with listening(lab) as listener, subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        stream, _ = listener.accept()  # and nothing is read
        assert process.stderr is not None
        assert "Ctrl-C" in process.stderr.readline()
        lab.host.shell(f"kill -{int(number)} {process.pid}")
        told = process.stderr.read()
        assert process.wait(30) == 0
        stream.close()
    assert told.startswith("sansnet: the command has ended, and the host did not take ")
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
