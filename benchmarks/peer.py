"""The two ends of the traffic: a server in the upstream namespace and a client in the guest, or the reverse.

Run as `peer.py ROLE ADDRESS SECONDS SIZE`. A server prints `ready` when it listens. The end that measures prints one
number on a line and exits. The receiver counts, so lost data is not counted.

It uses only the standard library, one process per end, and one system call per datagram or chunk. Python's overhead is
small compared to the call, and the column `direct` of the comparison shows the limit of the two ends alone.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Final

__all__ = ["CLIENTS", "PORT", "SERVERS", "WARM_UP"]

PORT: Final = 5001
CHUNK: Final = 256 << 10
"""Bytes per send or receive of a stream; larger ones gain nothing on loopback."""

WARM_UP: Final = 0.5
"""Seconds of traffic before counting begins, so that slow start and the growth of buffers are not measured."""

PATIENCE: Final = 5.0
"""Seconds without data after which a connection is given up."""


def say(word: object) -> None:
    print(word, flush=True)


def limit_waits(sock: socket.socket, seconds: float) -> None:
    """Bound blocking calls by SO_RCVTIMEO: `settimeout` would add a poll() to every call."""
    whole = int(seconds)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", whole, int((seconds - whole) * 1e6)))


def listen(address: str) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, PORT))
    listener.listen(4096)
    say("ready")
    return listener


def accept(address: str) -> socket.socket:
    connection, _ = listen(address).accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def connect(address: str) -> socket.socket:
    connection = socket.create_connection((address, PORT), PATIENCE)
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def send_for_ever(connection: socket.socket) -> None:
    data = bytes(CHUNK)
    try:
        while True:
            connection.sendall(data)
    except OSError:
        return


def count_stream(connection: socket.socket, seconds: float) -> None:
    """Print bits per second."""
    limit_waits(connection, 0.1)
    room = bytearray(CHUNK)
    total = 0
    begin = time.monotonic() + WARM_UP
    end = begin + seconds
    while (now := time.monotonic()) < end:
        try:
            size = connection.recv_into(room)
        except BlockingIOError:
            continue
        if not size:
            break
        if now >= begin:
            total += size
    say(total * 8 / seconds)


def count_datagrams(sock: socket.socket, seconds: float, size: int) -> None:
    """Print datagrams of `size` bytes per second, from the first one on."""
    limit_waits(sock, 0.1)
    room = bytearray(size + 1)
    total = 0
    begin = time.monotonic() + WARM_UP
    end = begin + seconds
    while (now := time.monotonic()) < end:
        try:
            received = sock.recv_into(room)
        except OSError:
            continue
        if received == size and now >= begin:
            total += 1
    say(total / seconds)


def send_datagrams(sock: socket.socket, size: int) -> None:
    data = bytes(size)
    send = sock.send
    while True:
        try:
            while True:
                send(data)
        except OSError:
            time.sleep(0.001)


def serve_tcp_send(address: str, seconds: float, size: int) -> None:
    send_for_ever(accept(address))


def serve_tcp_receive(address: str, seconds: float, size: int) -> None:
    count_stream(accept(address), seconds)


def bind_datagrams(address: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, PORT))
    say("ready")
    return sock


def serve_udp_receive(address: str, seconds: float, size: int) -> None:
    sock = bind_datagrams(address)
    sock.recv(1, socket.MSG_PEEK)
    count_datagrams(sock, seconds, size)


def serve_udp_send(address: str, seconds: float, size: int) -> None:
    sock = bind_datagrams(address)
    _, guest = sock.recvfrom(64)
    sock.connect(guest)
    send_datagrams(sock, size)


def serve_request_response(address: str, seconds: float, size: int) -> None:
    connection = accept(address)
    while data := connection.recv(1):
        connection.send(data)


def serve_connections(address: str, seconds: float, size: int) -> None:
    """One request per connection. The server closes first, as HTTP/1.0 does, so TIME_WAIT stays on this side."""
    listener = listen(address)
    while True:
        connection, _ = listener.accept()
        try:
            limit_waits(connection, PATIENCE)
            connection.send(connection.recv(1))
        except OSError:
            pass
        connection.close()


def serve_idle(address: str, seconds: float, size: int) -> None:
    listener = listen(address)
    connections = []
    while True:
        connections.append(listener.accept()[0])


def run_tcp_send(address: str, seconds: float, size: int) -> None:
    send_for_ever(connect(address))


def run_tcp_receive(address: str, seconds: float, size: int) -> None:
    count_stream(connect(address), seconds)


def run_udp_send(address: str, seconds: float, size: int) -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect((address, PORT))
    send_datagrams(sock, size)


def run_udp_receive(address: str, seconds: float, size: int) -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect((address, PORT))
    sock.send(b"go")
    sock.recv(1, socket.MSG_PEEK)
    count_datagrams(sock, seconds, size)


def run_request_response(address: str, seconds: float, size: int) -> None:
    """Print transactions per second: round trips of one byte, one at a time."""
    connection = connect(address)
    limit_waits(connection, PATIENCE)
    total = 0
    begin = time.monotonic() + WARM_UP
    end = begin + seconds
    while (now := time.monotonic()) < end:
        connection.send(b"?")
        if not connection.recv(1):
            break
        if now >= begin:
            total += 1
    say(total / seconds)


def run_connections(address: str, seconds: float, size: int) -> None:
    """Print connections per second: connect, one byte in each direction, end of stream, close."""
    total = 0
    begin = time.monotonic() + WARM_UP
    end = begin + seconds
    while (now := time.monotonic()) < end:
        try:
            with connect(address) as connection:
                limit_waits(connection, PATIENCE)
                connection.send(b"?")
                complete = connection.recv(1) == b"?" and not connection.recv(1)
        except OSError:
            continue
        if complete and now >= begin:
            total += 1
    say(total / seconds)


def run_idle(address: str, seconds: float, size: int) -> None:
    """Open connections up to the number on each line of the standard input; print their number."""
    connections: list[socket.socket] = []
    for line in sys.stdin:
        while len(connections) < int(line):
            try:
                connections.append(connect(address))
            except OSError as error:
                sys.exit(f"{len(connections)} connections opened, then: {error}")
        say(len(connections))


SERVERS: Final[dict[str, Callable[[str, float, int], None]]] = {
    "tcp-down": serve_tcp_send,
    "tcp-up": serve_tcp_receive,
    "udp-down": serve_udp_send,
    "udp-up": serve_udp_receive,
    "tcp-rr": serve_request_response,
    "tcp-crr": serve_connections,
    "idle": serve_idle,
}

CLIENTS: Final[dict[str, Callable[[str, float, int], None]]] = {
    "tcp-down": run_tcp_receive,
    "tcp-up": run_tcp_send,
    "udp-down": run_udp_receive,
    "udp-up": run_udp_send,
    "tcp-rr": run_request_response,
    "tcp-crr": run_connections,
    "idle": run_idle,
}


def main(end: str, traffic: str, address: str, seconds: str, size: str) -> None:
    role = (SERVERS if end == "server" else CLIENTS)[traffic]
    role(address, float(seconds), int(size))


if __name__ == "__main__":
    main(*sys.argv[1:])
