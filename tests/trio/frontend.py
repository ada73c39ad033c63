"""A vhost-user front-end with real descriptors and shared memory; it plays QEMU and the guest."""

from __future__ import annotations

import fcntl
import mmap
import os
import select
import socket
from array import array
from collections.abc import Sequence

from sansnet_core.vhost import TO_GUEST
from sansnet_core.vhost.messages import HEADER, Region, emit
from sansnet_trio.links.vhost_user import VhostUserLink
from tests.core.vhost.machine import HIGH, LOW, Machine

__all__ = ["FrontEnd", "take"]


def take(fd: int) -> bool:
    """Whether the eventfd was signalled since the last call."""
    if not select.select([fd], [], [], 0)[0]:
        return False
    os.eventfd_read(fd)
    return True


class FrontEnd(Machine):
    """A machine at the other end of a socket. The numbers that it uses for descriptors are keys of `files`.

    Args:
        mtu: MTU of the link; None leaves it to the front-end, or to the default.
        sealed: whether the memory's file cannot shrink.
        allow_unsealed: see `VhostUserLink`.
    """

    def __init__(
        self, *, mtu: int | None = None, sealed: bool = True, size: int = 8, allow_unsealed: bool = False
    ) -> None:
        self.file = os.memfd_create("memory", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.file, LOW.size + HIGH.size)
        if sealed:
            fcntl.fcntl(self.file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        self.mapping = mmap.mmap(self.file, LOW.size + HIGH.size)
        self.log_file = os.memfd_create("log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.log_file, 1 << 20)
        fcntl.fcntl(self.log_file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        self.events = {number: os.eventfd(0, os.EFD_NONBLOCK) for number in (20, 21, 30, 31, 50, 51, 60, 61, 80)}
        self.files = {40: self.file, 41: self.file, 70: self.log_file} | self.events
        super().__init__(size=size)
        self.socket, end = socket.socketpair()
        self.link = VhostUserLink(end, mtu=mtu, allow_unsealed=allow_unsealed)
        self.backend = self.link._backend

    def view(self, region: Region) -> memoryview:
        return memoryview(self.mapping)[region.offset : region.offset + region.size]

    def send_message(self, request: int, payload: bytes = b"", fds: Sequence[int] = (), *, reply: bool = False) -> None:
        """Send a message without letting the link serve it; `fds` are keys of `files`, or ~n for a descriptor n."""
        files = array("i", [~fd if fd < 0 else self.files[fd] for fd in fds])
        self.socket.sendmsg(
            [emit(request, payload, reply=False, needs_reply=reply)],
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)] if fds else [],
        )

    def request(
        self, request: int, payload: bytes = b"", fds: Sequence[int] = (), *, needs_reply: bool = False
    ) -> list[bytes]:
        self.send_message(request, payload, fds, reply=needs_reply)
        return self.replies()

    def replies(self) -> list[bytes]:
        """Let the link serve the connection, and return its replies."""
        self.link._serve(TO_GUEST)
        messages = []
        while select.select([self.socket], [], [], 0)[0]:
            header = self.socket.recv(HEADER.size)
            if not header:
                break
            messages.append(header + self.socket.recv(HEADER.unpack(header)[2]))
        return messages

    def kick(self, ring: int) -> None:
        os.eventfd_write(self.events[50 + ring], 1)

    def readable(self) -> bool:
        """Whether the link has something to do."""
        return bool(select.select([self.link], [], [], 0)[0])

    def close(self) -> None:
        self.link.close()
        self.socket.close()
        for fd in {*self.files.values()}:
            os.close(fd)
        self.mapping.close()
