"""The network card of a virtual machine over vhost-user: the I/O for `sansnet_core.vhost`.

Theory of operation. The link has an epoll set of its own with the connection and the kick descriptors of the running
rings. The driver waits for the descriptor of this set. That is never writable, so the driver sets the events that it
waits for in the link (`want`) instead of asking for EPOLLOUT. If a ring must be examined again although no kick will
come, the link signals the ring's kick descriptor itself; the guest owns the descriptor too, but an additional kick
does no harm. An eventfd is made non-blocking before each use, because any process that shares it could have made it
blocking again.

The connection is served before the rings, because the front-end and the guest stand still until a request is answered.
Only the back-end holds views of the guest's memory; when it drops them the memory is unmapped. An exception's traceback
keeps the frames alive, and with them the views, so a violation loses its traceback before `LinkClosed` is raised.

A front-end could truncate the file that we have mapped, and the next access would be a SIGBUS, which ends the process.
Only a seal prevents that (F_SEAL_SHRINK in fcntl(2)). It is added if it is missing. Files that take no seal are
refused, unless the caller allows them.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import platform
import select
import socket
import stat
from array import array
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from threading import Lock
from typing import Final, NoReturn

from sansnet_core import Frame, LinkConfig, UsageError
from sansnet_core.errors import expect
from sansnet_core.vhost import (
    FROM_GUEST,
    MAX_FRAME_SIZE,
    TO_GUEST,
    MapLog,
    MapMemory,
    SetCall,
    SetError,
    SetKick,
    StartRing,
    StopRing,
    VhostOrder,
    VhostUserBackend,
    VhostViolation,
)
from sansnet_core.wire import ethernet
from sansnet_trio.links import LinkClosed, MtuLimits
from sansnet_trio.linux.descriptors import Uncopyable
from sansnet_trio.words import word

__all__ = ["MTU", "VhostUserLink", "is_supported"]

_log: Final = logging.getLogger("sansnet")

MTU: Final = MtuLimits(default=1500, largest=MAX_FRAME_SIZE - ethernet.HEADER_SIZE)
"""With the offloads one frame carries 64 KiB at any MTU, so the default is Ethernet's, as remote hosts have it."""

_MAX_FDS: Final = 8
_MAX_MESSAGES: Final = 64
"""Most reads from the connection before the rings are served."""
_MAX_WRITTEN: Final = 256
"""Most frames to the guest per call: the guest can make each of them cost a thousand descriptors."""

_ANCILLARY: Final = socket.CMSG_SPACE(_MAX_FDS * array("i").itemsize)
_EVENT: Final = (1).to_bytes(8, "little")

_REFUSED: Final = (
    "the file has no seal against shrinking, so QEMU could cut it short while it is in use; "
    "give QEMU a memory-backend-memfd, or sansnet {}"
)
_ALLOWED: Final = (
    "vhost-user: the guest's memory is a file without a seal against shrinking; if QEMU cuts it short, this process "
    "ends (SIGBUS)"
)


def is_supported() -> bool:
    """Whether this processor keeps the order of memory accesses that the rings need, as x86-64 does."""
    return platform.machine() == "x86_64"


class VhostUserLink(Uncopyable):
    """A link over the connection of a front-end such as QEMU with `-netdev vhost-user`.

    Args:
        connection: a UNIX stream socket; `close` closes it.
        mtu: the guest's MTU, in bytes. None leaves it to the front-end, or to `MTU.default` if the front-end announces
            none. An MTU that the front-end announces is the upper limit.
        allow_unsealed: accept memory whose file could shrink. If it does, this process ends by SIGBUS.

    Raises:
        UsageError: this processor is not x86-64; see `is_supported`.
    """

    def __init__(self, connection: socket.socket, *, mtu: int | None = None, allow_unsealed: bool = False) -> None:
        expect("connection", connection, socket.socket, "a connected UNIX stream socket")
        if not is_supported():
            raise UsageError("vhost-user works on x86-64 only")
        connection.setblocking(False)
        self._connection = connection
        self._mtu = mtu
        self._allow_unsealed = allow_unsealed
        self._backend = VhostUserBackend(_make_fence())
        self._epoll = select.epoll()
        self._kicks: list[int | None] = [None, None]
        self._calls: list[int | None] = [None, None]
        self._errors: list[int | None] = [None, None]
        self._wanted = [False, True]
        """For each ring, whether the driver waits for its kicks."""
        self._running = [False, False]
        self._watched: set[int] = set()
        self._watch()
        self._agreed: LinkConfig | None = None
        self._lost = 0
        self._closed = False

    @property
    def config(self) -> LinkConfig:
        """See `Link`. Final after `wait_started`: if the guest accepts other features later, the link is closed."""
        limits = (self._mtu, self._backend.mtu)
        return self._backend.link_config(min((mtu for mtu in limits if mtu is not None), default=MTU.default))

    @property
    def dropped(self) -> int:
        """See `Link`. It includes frames that came while the guest had no running driver."""
        return self._lost + self._backend.dropped

    async def wait_started(self) -> None:
        """Serve the front-end until the guest's driver runs, and its features are known.

        Raises:
            LinkClosed: the front-end closed the connection or violated the protocol.
        """
        import trio

        while self._backend.from_guest is None or self._backend.to_guest is None:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            self._serve(FROM_GUEST)
        self._agreed = self.config
        _signal(self._kicks[FROM_GUEST])  # kicks consumed while waiting must not be lost: make the ring look again

    def fileno(self) -> int:
        """See `Link`. It is readable when there is anything to do, and never writable."""
        return self._epoll.fileno()

    def want(self, *, frames: bool, room: bool) -> int:
        """See `ReadableLink`.

        Returns:
            The events to ask epoll for.
        """
        self._wanted[FROM_GUEST] = frames
        self._wanted[TO_GUEST] = room
        self._watch()
        return select.EPOLLIN

    def read_frames(self, limit: int) -> Sequence[bytes]:
        """See `Link`."""
        self._serve(FROM_GUEST)
        ring = self._backend.from_guest
        if ring is None:
            return []
        violation = None
        try:
            frames = ring.take_frames(limit)
            notify = bool(frames) and ring.must_notify()
            more = ring.more and len(frames) < limit  # after as many as the limit, the driver looks again itself
        except VhostViolation as error:
            violation = error.with_traceback(None)
        if violation is not None:
            del ring
            self._violated(violation, FROM_GUEST)
        if notify:
            _signal(self._calls[FROM_GUEST])
        if more:
            # The guest kicks only after the ring was found empty, so look again
            _signal(self._kicks[FROM_GUEST])
        return frames

    def write_frames(self, frames: Sequence[Frame]) -> int:
        """See `Link`."""
        if self._wanted[TO_GUEST] or self._closed:
            self._serve(TO_GUEST)
        ring = self._backend.to_guest
        if ring is None:
            self._lost += len(frames)
            return len(frames)
        violation = None
        batch = frames if len(frames) <= _MAX_WRITTEN else frames[:_MAX_WRITTEN]
        try:
            done = ring.put_frames(batch)
            notify = done > 0 and ring.must_notify()
        except VhostViolation as error:
            violation = error.with_traceback(None)
        if violation is not None:
            del ring
            self._violated(violation, TO_GUEST)
        if notify:
            _signal(self._calls[TO_GUEST])
        if done == _MAX_WRITTEN:
            _signal(self._kicks[TO_GUEST])  # the ring did not run out of buffers, so the guest will not kick
        return done

    def close(self) -> None:
        """See `Link`. The guest's memory is unmapped."""
        if self._closed:
            return
        self._closed = True
        self._running = [False, False]
        self._backend.close()
        self._carry_out()
        self._epoll.close()
        for fds in (self._kicks, self._calls, self._errors):
            for fd in fds:
                if fd is not None:
                    os.close(fd)
        self._connection.close()

    # The connection

    def _serve(self, ring: int) -> None:
        """Answer the front-end, and consume the kicks of the ring that is to be served next."""
        if self._closed:
            raise LinkClosed("the front-end is gone")
        ready = {fd for fd, _ in self._epoll.poll(0, 4)}
        if self._connection.fileno() in ready:
            self._serve_connection()
        kick = self._kicks[ring]
        if kick in ready and kick in self._watched:  # serving the connection may have replaced it
            self._drain(kick)

    def _drain(self, kick: int) -> None:
        try:
            os.set_blocking(kick, False)
            count = len(os.read(kick, len(_EVENT)))
        except BlockingIOError:
            return
        except OSError:
            count = 0
        if count != len(_EVENT):
            self._drop("vhost-user: a kick descriptor is not an eventfd")

    def _serve_connection(self) -> None:
        backend = self._backend
        for _ in range(_MAX_MESSAGES):
            try:
                data, ancillary, flags, _ = self._connection.recvmsg(
                    backend.wanted(), _ANCILLARY, socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            except OSError as error:
                self._drop(f"the front-end is gone: {error.strerror}")
            fds = array("i")
            for _, _, content in ancillary:  # SCM_RIGHTS, the only kind that was requested
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
            if not data or flags & socket.MSG_CTRUNC:
                _close(fds)
                if not data:
                    self._drop("the front-end is gone")
                self._drop(
                    "the front-end sent more descriptors than one message may have, or than may be open (ulimit -n)"
                )
            violation = None
            try:
                backend.receive(data, fds)
                self._carry_out()
            except VhostViolation as error:
                violation = error.with_traceback(None)
            if violation is not None:
                self._violated(violation)
            self._reply()

    def _reply(self) -> None:
        for reply in self._backend.take_replies():
            try:
                sent = self._connection.send(reply, socket.MSG_NOSIGNAL)
            except OSError:
                sent = 0
            if sent != len(reply):
                self._drop("the front-end does not take its answers")

    def _violated(self, violation: VhostViolation, *rings: int) -> NoReturn:
        """Signal the error descriptors, answer the front-end, and drop the connection."""
        for ring in rings:
            _signal(self._errors[ring])
        with suppress(LinkClosed):
            self._reply()
        self._drop(f"vhost-user: {violation}")

    def _drop(self, why: str) -> NoReturn:
        self.close()
        raise LinkClosed(why)

    # Orders

    def _carry_out(self) -> None:
        """Carry out orders until there are none.

        Raises:
            VhostViolation: memory could not be mapped.
        """
        while orders := self._backend.take_orders():
            for order in orders:
                self._apply(order)

    def _apply(self, order: VhostOrder) -> None:
        match order:
            case MapMemory(regions, fds):
                self._map([(fd, region.size, region.offset) for fd, region in zip(fds, regions, strict=True)])
            case MapLog(fd, size, offset):
                self._map([(fd, size, offset)])
            case SetKick(ring, fd):
                old, self._kicks[ring] = self._kicks[ring], None
                self._watch()
                _close(() if old is None else (old,))
                self._kicks[ring] = fd
                self._watch()
            case SetCall(ring, fd):
                _replace(self._calls, ring, fd)
            case SetError(ring, fd):
                _replace(self._errors, ring, fd)
            case StartRing(ring):
                if not self._closed:
                    self._start(ring)
            case StopRing(ring):
                self._running[ring] = False
                self._watch()
            case _:
                _close(order.fds)

    def _start(self, ring: int) -> None:
        if self._agreed not in (None, self.config):
            # The network was made for the other features. QEMU connects again (reconnect=1)
            self._drop("the guest's driver accepts other offloads than before")
        self._running[ring] = True
        self._watch()
        _signal(self._kicks[ring])

    def _map(self, pieces: Sequence[tuple[int, int, int]]) -> None:
        """Map pieces of files (descriptor, size, offset), and close the descriptors."""
        try:
            views = [_map_file(*piece, allow_unsealed=self._allow_unsealed) for piece in pieces]
        except (OSError, OverflowError, ValueError) as error:
            _log.warning("vhost-user: cannot map the guest's memory: %s", error)
            views = None
        finally:
            _close(fd for fd, _, _ in pieces)
        if views is None:
            self._backend.mapping_failed()
        else:
            self._backend.mapped(views)

    def _watch(self) -> None:
        """Update the epoll set."""
        wanted = {self._connection.fileno()}
        for kick, running, interest in zip(self._kicks, self._running, self._wanted, strict=True):
            if kick is not None and running and interest:
                wanted.add(kick)
        for fd in self._watched - wanted:
            self._epoll.unregister(fd)
        self._watched &= wanted
        for fd in wanted - self._watched:
            try:
                self._epoll.register(fd, select.EPOLLIN)
            except OSError as error:
                self._drop(f"vhost-user: a kick descriptor cannot be waited for: {error.strerror}")
            self._watched.add(fd)


def _make_fence() -> Callable[[], None]:
    """A full memory barrier: releasing and taking a lock are locked instructions (0.2 us)."""
    lock = Lock()
    lock.acquire()

    def fence() -> None:
        lock.release()
        lock.acquire()

    return fence


def _map_file(fd: int, size: int, offset: int, *, allow_unsealed: bool) -> memoryview:
    """Map a file from its start, so that the offset needs no alignment.

    Raises:
        OSError, OverflowError, ValueError: it is not a regular file, it is too small, or it could shrink.
    """
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise ValueError("not a regular file")
    if not _seal(fd):
        if not allow_unsealed:
            raise ValueError(_REFUSED.format(word("allow_unsealed=True")))
        _log.warning(_ALLOWED)
    mapping = mmap.mmap(fd, offset + size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    mapping.madvise(mmap.MADV_DONTDUMP)
    return memoryview(mapping)[offset:]


def _seal(fd: int) -> bool:
    """Forbid that a file shrinks; whether it is forbidden now."""
    with suppress(OSError):  # it supports no seals, or no more of them
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    try:
        return bool(fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK)
    except OSError:
        return False


def _replace(fds: list[int | None], ring: int, fd: int | None) -> None:
    old, fds[ring] = fds[ring], fd
    _close(() if old is None else (old,))


def _signal(fd: int | None) -> None:
    """Signal an eventfd, if there is one. Errors are ignored: a full eventfd is signalled already."""
    if fd is not None:
        with suppress(OSError):
            os.set_blocking(fd, False)
            os.write(fd, _EVENT)


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)
