"""Acts as a virtual machine, with the kernel of this network namespace: joins a tap to QEMU's stream protocol.

When the connection ends, it connects again.

Usage: bridge.py (PATH | FD) INTERFACE MTU
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import time


def open_tap(name: str) -> int:
    """A plain tap, without offloads."""
    fd = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x0002 | 0x1000))
    return fd


def connect(path: str) -> socket.socket:
    """Connect, as soon as the socket listens."""
    while True:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            made.close()
            time.sleep(0.02)
        else:
            return made


def pump(tap: int, connection: socket.socket) -> None:
    """Carry frames until the connection ends."""
    held = b""
    while True:
        ready, _, _ = select.select([tap, connection.fileno()], [], [])
        if tap in ready:
            frame = os.read(tap, 1 << 17)
            connection.sendall(struct.pack("!I", len(frame)) + frame)
        if connection.fileno() in ready:
            data = connection.recv(1 << 18)
            if not data:
                return
            held += data
            while len(held) >= 4 and len(held) >= 4 + (size := int.from_bytes(held[:4], "big")):
                assert size >= 60, "an Ethernet frame has 60 bytes at least"
                os.write(tap, held[4 : 4 + size])
                held = held[4 + size :]


def main() -> None:
    """Run until the end, or for ever."""
    where, interface, mtu = sys.argv[1:]
    tap = open_tap(interface)
    subprocess.run(["ip", "link", "set", interface, "mtu", mtu, "up"], check=True)
    print("ready", flush=True)
    if where.isdigit():
        pump(tap, socket.socket(fileno=int(where)))
        return
    while True:
        with connect(where) as connection, contextlib.suppress(ConnectionResetError, BrokenPipeError):
            pump(tap, connection)


if __name__ == "__main__":
    main()
