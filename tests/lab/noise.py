"""A file of random bytes that upstream serves, to check that it arrives complete."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tests.lab.laboratory import Lab

__all__ = ["Noise", "served_noise"]


class Noise(NamedTuple):
    """The file.

    Attributes:
        port: of its HTTP server, which answers a POST with the digest of what it received.
        size: of it, in bytes.
        digest: its SHA-256.
    """

    port: int
    size: int
    digest: str

    def url(self, server: str) -> str:
        """Where it is on a server's address."""
        return f"http://{f'[{server}]' if ':' in server else server}:{self.port}/noise"


@contextmanager
def served_noise(lab: Lab, port: int, *, size: int = 20_000_000) -> Iterator[Noise]:
    """Serve it for the block."""
    directory = lab.directory / f"noise-{port}"
    directory.mkdir()
    data = random.Random(port).randbytes(size).replace(b"\0", b"\1")  # busybox's wget posts what is before a zero
    (directory / "noise").write_bytes(data)
    with lab.http_server(port, directory):
        yield Noise(port, size, hashlib.sha256(data).hexdigest())
