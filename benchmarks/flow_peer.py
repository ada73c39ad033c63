"""Both ends of `flows.py`: with `serve` the servers, otherwise the guest's program, which opens flows on request."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time

DATA = os.urandom(64)


def open_tcp(host: str, port: int) -> None:
    """Connect, send a byte, receive one, and close after the server."""
    with socket.create_connection((host, port)) as stream:
        stream.sendall(b"?")
        assert stream.recv(1) == b"!"
        assert stream.recv(1) == b""


def open_udp(host: str, port: int) -> None:
    """Send a datagram from a new port, and receive its answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.settimeout(5)
        datagrams.connect((host, port))
        datagrams.send(DATA)
        assert datagrams.recv(len(DATA)) == DATA


def serve_udp(datagrams: socket.socket) -> None:
    """Send every datagram back."""
    while True:
        data, address = datagrams.recvfrom(65535)
        datagrams.sendto(data, address)


def serve() -> None:
    """Print the ports of a TCP server and of a UDP server, and serve until the end of the process."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("127.0.0.1", 0))
    threading.Thread(target=serve_udp, args=(datagrams,), daemon=True).start()
    print(f"{listener.getsockname()[1]} {datagrams.getsockname()[1]}\n", end="", flush=True)
    while True:
        stream, _ = listener.accept()
        with stream:
            if stream.recv(1):
                stream.sendall(b"!")


def main() -> None:
    """Requests are lines with protocol, host, port and number of flows; each answer is the seconds they took."""
    for line in sys.stdin:
        protocol, host, port, count = line.split()
        open_flow = {"tcp": open_tcp, "udp": open_udp}[protocol]
        began = time.perf_counter()
        for _ in range(int(count)):
            open_flow(host, int(port))
        print(f"{time.perf_counter() - began}\n", end="", flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    main()
