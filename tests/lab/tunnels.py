"""A tunnel between two namespaces: an interface without Ethernet in each, as a VPN has it, and a thread between."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from tests.lab.namespaces import Namespace

__all__ = ["tunnel"]

# linux/if_tun.h
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN: Final = 0x0001
_IFF_NO_PI: Final = 0x1000

_LARGEST: Final = 65535


@contextmanager
def tunnel(name: str, *namespaces: Namespace) -> Iterator[None]:
    """An interface of this name in each of two namespaces; what goes into one comes out of the other."""
    with ExitStack() as stack:
        ends = [namespace.call(lambda: _open(name)) for namespace in namespaces]
        for end in ends:
            stack.callback(os.close, end)
        reader, writer = os.pipe()
        stack.callback(os.close, reader)
        carrier = threading.Thread(target=_carry, args=(ends, reader), daemon=True)
        carrier.start()
        stack.callback(carrier.join)
        stack.callback(os.close, writer)
        yield


def _open(name: str) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("=16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    return fd


def _carry(ends: list[int], stop: int) -> None:
    other = {ends[0]: ends[1], ends[1]: ends[0]}
    while True:
        ready, _, _ = select.select([*ends, stop], [], [])
        if stop in ready:
            return
        for end in ready:
            packet = os.read(end, _LARGEST)
            try:
                os.write(other[end], packet)
            except OSError:  # it is down
                continue
