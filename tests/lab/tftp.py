"""A TFTP server (RFC 1350): each transfer is served from a port of its own, not from the one that the client asked."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from tests.lab.namespaces import Namespace

__all__ = ["tftp_server"]

PORT: Final = 69
BLOCK: Final = 512
_READ: Final = 1
_DATA: Final = 3
_ACK: Final = 4


def _serve(transfer: socket.socket, client: tuple[str, int], content: bytes) -> None:
    """Send a file, block by block; each is repeated until it is acknowledged."""
    transfer.settimeout(1)
    with transfer:
        for number in range(1, len(content) // BLOCK + 2):
            block = content[(number - 1) * BLOCK : number * BLOCK]
            for _ in range(5):
                transfer.sendto(struct.pack("!HH", _DATA, number) + block, client)
                with suppress(TimeoutError):
                    answer, source = transfer.recvfrom(100)
                    if source == client and answer == struct.pack("!HH", _ACK, number):
                        break
            else:
                return


@contextmanager
def tftp_server(
    namespace: Namespace, address: str, content: bytes, *, answer_from: str | None = None
) -> Iterator[None]:
    """Serve one content under every name at port 69 of an address, from that address or another one."""
    listener = namespace.datagram(address, PORT)
    listener.settimeout(0.2)
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            with suppress(TimeoutError):
                request, client = listener.recvfrom(1000)
                if request[:2] == struct.pack("!H", _READ):
                    transfer = namespace.datagram(answer_from or address)
                    threading.Thread(target=_serve, args=(transfer, client, content), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(5)
        listener.close()
