"""The guest's end of `services.py`: `service_peer.py TEST HOST PORT SECONDS` prints units and seconds."""

from __future__ import annotations

import os
import socket
import sys
import time

DATA = os.urandom(1 << 18)


def main(test: str, host: str, port: int, seconds: float) -> float:
    """Bytes, round trips, connections or datagrams until the time is over."""
    end = time.monotonic() + seconds
    units = 0.0
    if test == "connect":
        while time.monotonic() < end:
            with socket.create_connection((host, port)) as stream:
                stream.sendall(b"c")
                assert stream.recv(1) == b"x"
                assert stream.recv(1) == b""
            units += 1
        return units
    if test.startswith("udp"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.connect((host, port))
            datagrams.settimeout(1)
            while time.monotonic() < end:
                if test == "udp-up":
                    datagrams.send(DATA[:1400])
                else:
                    datagrams.send(b"x")
                    try:
                        datagrams.recv(10)
                    except TimeoutError:
                        continue
                units += 1
        return units
    with socket.create_connection((host, port)) as stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream.sendall(test[0].encode())
        while time.monotonic() < end:
            if test == "up":
                stream.sendall(DATA)
                units += len(DATA)
            elif test == "round-trip":
                stream.sendall(b"x")
                units += len(stream.recv(1))
            else:
                units += len(stream.recv(1 << 18))
    return units


if __name__ == "__main__":
    began = time.monotonic()
    units = main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
    print(units, time.monotonic() - began)
