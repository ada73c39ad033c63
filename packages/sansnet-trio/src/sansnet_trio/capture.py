"""Links that show, or write down, all that passes through another link."""

from __future__ import annotations

import contextlib
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import BinaryIO

from sansnet_core import capture
from sansnet_core.actions import Buffer, Frame
from sansnet_core.config import LinkConfig
from sansnet_trio.links import Link, want

__all__ = ["CapturedLink", "ObservedLink"]


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


class CapturedLink(ObservedLink):
    """Writes the frames of a link, both ways, to a file in pcap format.

    The snaplen is the link's own largest frame, so no frame is cut. What passed at once is in the file at once, so that
    it can be read meanwhile, and is there however this process ends. A file that cannot be written any more ends the
    capture with a warning, and nothing else.

    Args:
        link: the other link; closed with this one.
        file: buffered and binary; closed with this one. If it has a capture already, of a link of the same kind, this
            one goes on with it.
    """

    def __init__(self, link: Link, file: BinaryIO) -> None:
        super().__init__(link)
        self._file: BinaryIO | None = file
        self._vnet = link.config.vnet_header
        self._snaplen = link.config.largest_frame
        if not (file.seekable() and file.tell()):
            self._write([capture.pcap_header(self._snaplen)])

    def observe(self, frames: Iterable[Frame], *, up: bool) -> None:
        """Write them down."""
        now = time.time()
        self._write(capture.pcap_record(frame, now, self._snaplen, self._vnet) for frame in frames)

    def close(self) -> None:
        """See `Link`. What was captured is in the file then."""
        super().close()
        self._finish()

    def _write(self, pieces: Iterable[bytes]) -> None:
        if self._file is not None:
            try:
                self._file.writelines(pieces)
                self._file.flush()
            except OSError as error:
                reason = error.strerror or str(error)
                logging.getLogger("sansnet").warning(
                    "the capture ends here, incomplete (%s); make room for it, or capture to another file", reason
                )
                self._finish()

    def _finish(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            with contextlib.suppress(OSError):  # it tries once more to write what it just could not
                file.close()
