"""Links that observe or capture the frames of another link."""

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
from sansnet_core.errors import UsageError
from sansnet_core.orders import Buffer, Frame
from sansnet_trio.links import Link, expect_link, want
from sansnet_trio.linux.descriptors import Uncopyable

__all__ = ["CaptureFile", "CapturedLink", "ObservedLink"]

_log: Final = logging.getLogger("sansnet")

_MAX_WAITING: Final = 4 << 20
"""Most bytes that wait for the reader of a pipe. While there are more, further records are dropped."""
_PIECE: Final = 1 << 16
_READER_TIMEOUT: Final = 0.05
"""Seconds to wait for the reader of a full pipe. After that, do not wait again until it has read something."""
_CLOSE_TIMEOUT: Final = 0.5
"""Seconds to wait for the reader when the capture is closed."""


class ObservedLink(Uncopyable, ABC):
    """Passes all frames on to another link and reports them to its method `observe`.

    Args:
        link: the other link. Closing this link closes it.
    """

    def __init__(self, link: Link) -> None:
        expect_link(link)
        self._link = link

    @abstractmethod
    def observe(self, frames: Iterable[Frame], *, up: bool) -> None:
        """Called with frames that came from the guest (`up`) or were sent to it."""

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


class CaptureFile(Uncopyable):
    """A pcap file for the frames of one link, or of several links of one kind in succession.

    Frames are in the file as soon as they have passed, so it can be read meanwhile and is complete however this process
    ends. If the file cannot be written any more, a warning is logged and only the capture ends. If the reader of a pipe
    does not keep up, each write waits for a moment; after that whole records are dropped, with a warning.

    Args:
        file: a binary file, which `close` closes. A pipe must be non-blocking, or its reader can stop this process.
        replace: whether to empty the file, if it is a regular one, when the capture begins.
    """

    def __init__(self, file: BinaryIO, *, replace: bool = False) -> None:
        if not hasattr(file, "write") or hasattr(file, "encoding"):
            raise UsageError(f"file: {file!r:.100} is not a binary file; give open(path, 'wb', buffering=0)")
        self._file: BinaryIO | None = file
        self._pipe = _pipe(file)
        self._replace = replace
        self._begun = False
        self._waiting = bytearray()
        self._stuck = False
        self._lost = False

    def begin(self, snaplen: int) -> None:
        """Write the file header, unless an earlier link has done that.

        Args:
            snaplen: size of the largest frame, in bytes.
        """
        if not self._begun:
            self._begun = True
            if self._replace and self._file is not None and self._pipe is None:
                self._file.truncate(0)
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
                    self._push(self._pipe, _CLOSE_TIMEOUT)
            with contextlib.suppress(OSError):  # closing tries once more to write what has just failed
                file.close()

    def _queue(self, pipe: int, records: bytes) -> None:
        if len(self._waiting) <= _MAX_WAITING:
            self._waiting += records
        elif not self._lost:
            self._lost = True
            _log.warning(
                "frames are missing in the capture because its reader does not keep up; "
                "read it faster, or capture to a file"
            )
        self._push(pipe, 0.0 if self._stuck else _READER_TIMEOUT)

    def _push(self, pipe: int, timeout: float) -> None:
        """Write the waiting bytes, as far as the reader takes them within `timeout` seconds."""
        deadline = time.monotonic() + timeout
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
    """The descriptor, if the file is a pipe or the like, which can be full; None for a regular file."""
    try:
        descriptor = file.fileno()
    except OSError:  # it has none
        return None
    return None if stat.S_ISREG(os.fstat(descriptor).st_mode) else descriptor


class CapturedLink(ObservedLink):
    """Writes the frames of a link, in both directions, to a capture.

    The snaplen is the size of the link's largest frame, so no frame is cut.

    Args:
        link: the other link. Closing this link closes it.
        file: the capture. It stays open when the link is closed.
    """

    def __init__(self, link: Link, file: CaptureFile) -> None:
        super().__init__(link)
        self._file = file
        self._vnet = link.config.vnet_header
        self._snaplen = link.config.max_frame_size
        file.begin(self._snaplen)

    def observe(self, frames: Iterable[Frame], *, up: bool) -> None:
        """Write frames to the capture."""
        now = time.time()
        self._file.write(pcap.pcap_record(frame, now, self._snaplen, self._vnet) for frame in frames)
