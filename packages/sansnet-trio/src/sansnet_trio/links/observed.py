"""Links that show, or write down, all that passes through another link."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import stat
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import BinaryIO, Final

from sansnet_core import pcap
from sansnet_core.config import LinkConfig
from sansnet_core.orders import Buffer, Frame
from sansnet_trio.links import Link, want

__all__ = ["CaptureFile", "CapturedLink", "ObservedLink"]

_log: Final = logging.getLogger("sansnet")

_MAX_WAITING: Final = 4 << 20
"""Bytes that wait for the reader of a pipe; beyond them no more records are added."""
_PIECE: Final = 1 << 16
_MOMENT: Final = 0.05
"""Seconds for which the reader of a full pipe is waited for, and not again until it has read something."""
_LAST: Final = 0.5
"""The same at the end."""


class ObservedLink(ABC):
    """Passes everything on to another link; what it shows its `observe` is what passed.

    Args:
        link: the other link; closed with this one.
    """

    def __init__(self, link: Link) -> None:
        self._link = link

    @abstractmethod
    def observe(self, frames: Iterable[Frame], *, up: bool) -> None:
        """Be told of frames that came from the guest (`up`), or that it got."""

    @property
    def config(self) -> LinkConfig:
        """See `Link`."""
        return self._link.config

    @property
    def dropped(self) -> int:
        """See `Link`."""
        return self._link.dropped

    def fileno(self) -> int:
        """See `Link`."""
        return self._link.fileno()

    def want(self, *, frames: bool, room: bool) -> int:
        """See `ReadableLink`."""
        return want(self._link, frames=frames, room=room)

    def read_frames(self, limit: int) -> Sequence[Buffer]:
        """See `Link`."""
        frames = self._link.read_frames(limit)
        self.observe(frames, up=True)
        return frames

    def write_frames(self, frames: Sequence[Frame]) -> int:
        """See `Link`."""
        done = self._link.write_frames(frames)
        self.observe(frames[:done], up=False)
        return done

    def close(self) -> None:
        """See `Link`."""
        self._link.close()


class CaptureFile:
    """A file in pcap format, for the frames of one link, or of several of one kind after each other.

    What passed at once is in the file at once, so that it can be read meanwhile, and is there however this process
    ends. A file that cannot be written any more ends the capture with a warning, and nothing else. A reader of a pipe
    who does not keep up is waited for a moment at a time; then frames are left out, as whole records, with a warning.

    Args:
        file: binary; closed with this one. A pipe is to be non-blocking, or its reader can stop this process.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file: BinaryIO | None = file
        self._pipe = _pipe(file)
        self._begun = False
        self._waiting = bytearray()
        self._stuck = False
        self._lost = False

    def begin(self, snaplen: int) -> None:
        """Write the header, unless that has been done for the link before.

        Args:
            snaplen: bytes of the largest frame.
        """
        if not self._begun:
            self._begun = True
            self.write([pcap.pcap_header(snaplen)])

    def write(self, records: Iterable[bytes]) -> None:
        """Write records."""
        if self._file is not None:
            try:
                if self._pipe is not None:
                    self._queue(self._pipe, b"".join(records))
                else:
                    self._file.writelines(records)
                    self._file.flush()
            except OSError as error:
                reason = error.strerror or str(error)
                _log.warning(
                    "the capture ends here, incomplete (%s); make room for it, or capture to another file", reason
                )
                self.close()

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        if self._file is not None:
            file, self._file = self._file, None
            with contextlib.suppress(OSError):
                if self._pipe is not None:
                    self._push(self._pipe, _LAST)
            with contextlib.suppress(OSError):  # it tries once more to write what it just could not
                file.close()

    def _queue(self, pipe: int, records: bytes) -> None:
        if len(self._waiting) <= _MAX_WAITING:
            self._waiting += records
        elif not self._lost:
            self._lost = True
            _log.warning(
                "frames are missing in the capture, since its reader does not keep up; read it faster, or capture to a "
                "file"
            )
        self._push(pipe, 0.0 if self._stuck else _MOMENT)

    def _push(self, pipe: int, patience: float) -> None:
        """Write what waits, as far as the reader takes it within so many seconds."""
        deadline = time.monotonic() + patience
        room = select.poll()
        room.register(pipe, select.POLLOUT)
        self._stuck = False
        while self._waiting:
            try:
                del self._waiting[: os.write(pipe, self._waiting[:_PIECE])]
            except BlockingIOError:
                if not room.poll(max(deadline - time.monotonic(), 0.0) * 1000):
                    self._stuck = True
                    return


def _pipe(file: BinaryIO) -> int | None:
    """The descriptor of a file that another process must read for it to be written."""
    try:
        descriptor = file.fileno()
    except OSError:  # it has none
        return None
    return None if stat.S_ISREG(os.fstat(descriptor).st_mode) else descriptor


class CapturedLink(ObservedLink):
    """Writes the frames of a link, both ways, to a capture.

    The snaplen is the link's own largest frame, so no frame is cut.

    Args:
        link: the other link; closed with this one.
        file: the capture, which stays open when the link is closed.
    """

    def __init__(self, link: Link, file: CaptureFile) -> None:
        super().__init__(link)
        self._file = file
        self._vnet = link.config.vnet_header
        self._snaplen = link.config.max_frame_size
        file.begin(self._snaplen)

    def observe(self, frames: Iterable[Frame], *, up: bool) -> None:
        """Write them down."""
        now = time.time()
        self._file.write(pcap.pcap_record(frame, now, self._snaplen, self._vnet) for frame in frames)
