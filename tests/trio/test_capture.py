"""Captures of a link."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence

import pytest

from sansnet_core import Buffer, Frame, LinkConfig, capture
from sansnet_trio.capture import CapturedLink


class FakeLink:
    """Has two frames to read, and room for one."""

    config = LinkConfig(mtu=1500, largest_frame=1514)
    dropped = 3
    closed = False

    def fileno(self) -> int:
        return 42

    def read_frames(self, limit: int) -> Sequence[Buffer]:
        return [b"first".ljust(60), memoryview(b"second".ljust(60))]

    def write_frames(self, frames: Sequence[Frame]) -> int:
        return 1

    def close(self) -> None:
        self.closed = True


class Kept(io.BytesIO):
    """Remembers what was in it when it was closed."""

    content = b""

    def close(self) -> None:
        self.content = self.content or self.getvalue()
        super().close()


class Full(io.BytesIO):
    """A file on a full disk."""

    def writelines(self, _: object) -> None:
        raise OSError(28, "No space left on device")


def test_frames_of_both_directions_are_written_once_they_passed() -> None:
    file = Kept()
    link = CapturedLink(FakeLink(), file)
    assert [bytes(frame[:6]) for frame in link.read_frames(64)] == [b"first ", b"second"]
    assert link.write_frames([(b"head", b"body"), b"kept back"]) == 1
    link.close()
    assert [frame for _, frame in capture.read(file.content)] == [b"first".ljust(60), b"second".ljust(60), b"headbody"]


def test_the_snaplen_is_the_links_largest_frame() -> None:
    file = Kept()
    CapturedLink(FakeLink(), file).close()
    assert file.content == capture.pcap_header(1514)


def test_it_is_the_other_link_in_all_else() -> None:
    inner = FakeLink()
    link = CapturedLink(inner, Kept())
    assert (link.fileno(), link.dropped, link.config) == (42, 3, inner.config)
    link.close()
    link.close()
    assert inner.closed


def test_a_full_disk_ends_the_capture_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "sansnet"):
        link = CapturedLink(FakeLink(), Full())
        assert len(link.read_frames(64)) == 2
        assert link.write_frames([b"frame"]) == 1
        link.close()
    assert caplog.messages == ["the capture is incomplete: No space left on device"]
