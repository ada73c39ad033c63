"""Data that a command has sent over the loopback path before it ended, and that the host takes slowly."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final

import pytest

from tests.lab import USER, Lab

SIZE: Final = 8_000_000
"""More than the send buffer to the service holds, and less than all buffers on the way."""
BUFFER: Final = 1 << 16
CLIENT: Final = f"""
import socket
with socket.create_connection(("127.0.0.1", 8500)) as stream:
    stream.sendall(b"x" * {SIZE})
"""
SERVER: Final = f"""
import socket
with socket.create_server(("", 8500)) as listener:
    print("listening", flush=True)
    stream, _ = listener.accept()
with stream:
    stream.sendall(b"x" * {SIZE})
"""


@contextmanager
def listening(lab: Lab) -> Iterator[socket.socket]:
    """A service on the host's loopback whose connections have small buffers."""
    with closing(lab.host.open_socket(socket.AF_INET, socket.SOCK_STREAM)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 8500))
        listener.listen()
        listener.settimeout(30)
        yield listener


def take_late(stream: socket.socket) -> int:
    """Read a connection to its end after the command has ended for long; the number of bytes."""
    with stream:
        stream.settimeout(30)
        time.sleep(2.0)
        size = 0
        while data := stream.recv(1 << 16):
            size += len(data)
    return size


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
def test_a_slow_service_gets_all_data_of_a_command_that_has_ended(lab: Lab, user: int | None) -> None:
    received: list[int] = []
    with listening(lab) as listener:
        thread = threading.Thread(target=lambda: received.append(take_late(listener.accept()[0])))
        thread.start()
        done = lab.sansnet(["-T", "8500"], [sys.executable, "-c", CLIENT], user=user)
        thread.join(60)
    assert (done.returncode, received) == (0, [SIZE])
    assert "did not take" not in done.stderr


def test_a_slow_client_gets_all_data_of_a_server_that_has_ended(lab: Lab) -> None:
    command = lab.sansnet_command(["-t", "8500"], [sys.executable, "-c", SERVER], user=None, before="")
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        received = take_late(lab.host.connect("127.0.0.1", 8500, receive_buffer=BUFFER))
        _, told = process.communicate(timeout=30)
    assert (process.returncode, received) == (0, SIZE)
    assert "did not take" not in told


def test_what_a_service_does_not_take_is_told(lab: Lab) -> None:
    command = lab.sansnet_command(["-T", "8500"], [sys.executable, "-c", CLIENT], user=None, before="")
    with listening(lab) as listener, subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        stream, _ = listener.accept()  # and nothing is read
        assert process.stderr is not None
        assert "Ctrl-C" in process.stderr.readline()
        process.terminate()
        told = process.stderr.read()
        assert process.wait(30) == 0
        stream.close()
    assert "did not take" in told
