"""Captures of a link."""

from __future__ import annotations

import io
import logging
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from sansnet_core import Buffer, Frame, LinkConfig, pcap
from sansnet_trio.links.observed import CapturedLink, CaptureFile


class FakeLink:
    """A link with two frames to read and room for one."""

    config = LinkConfig(mtu=1500, max_frame_size=1514)
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
    """A file that keeps its content when it is closed."""

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
    captured = CaptureFile(file)
    link = CapturedLink(FakeLink(), captured)
    assert [bytes(frame[:6]) for frame in link.read_frames(64)] == [b"first ", b"second"]
    assert link.write_frames([(b"head", b"body"), b"kept back"]) == 1
    link.close()
    captured.close()
    assert [frame for _, frame in pcap.read(file.content)] == [b"first".ljust(60), b"second".ljust(60), b"headbody"]


def test_the_snaplen_is_the_links_largest_frame() -> None:
    file = Kept()
    captured = CaptureFile(file)
    for _ in range(2):
        CapturedLink(FakeLink(), captured).close()
    captured.close()
    assert file.content == pcap.pcap_header(1514)


def test_it_is_the_other_link_in_all_else() -> None:
    inner = FakeLink()
    link = CapturedLink(inner, CaptureFile(Kept()))
    assert (link.fileno(), link.dropped, link.config) == (42, 3, inner.config)
    link.close()
    link.close()
    assert inner.closed


def test_a_full_disk_ends_the_capture_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "sansnet"):
        link = CapturedLink(FakeLink(), CaptureFile(Full()))
        assert len(link.read_frames(64)) == 2
        assert link.write_frames([b"frame"]) == 1
        link.close()
    assert caplog.messages == [
        "the capture ends here, incomplete (No space left on device); make room for it, or capture to another file"
    ]


def test_a_device_that_is_full_is_spoken_of_once(caplog: pytest.LogCaptureFixture) -> None:
    full = Path("/dev/full")
    with caplog.at_level(logging.WARNING, "sansnet"):
        captured = CaptureFile(full.open("wb", buffering=1 << 20))
        CapturedLink(FakeLink(), captured).read_frames(64)
        captured.close()
    assert len(caplog.messages) == 1


def test_what_passed_can_be_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "live.pcap"
    captured = CaptureFile(path.open("wb", buffering=1 << 20))
    link = CapturedLink(FakeLink(), captured)
    assert list(pcap.read(path.read_bytes())) == []
    link.read_frames(64)
    assert [frame for _, frame in pcap.read(path.read_bytes())] == [b"first".ljust(60), b"second".ljust(60)]
    link.write_frames([b"third"])
    assert len(list(pcap.read(path.read_bytes()))) == 3
    captured.close()


def pipe() -> tuple[int, CaptureFile]:
    """A capture that is written to a pipe: the reading end, and the capture."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    return reader, CaptureFile(os.fdopen(writer, "wb"))


def test_a_reader_that_reads_nothing_is_waited_for_a_moment_only(caplog: pytest.LogCaptureFixture) -> None:
    reader, captured = pipe()
    captured.begin(1514)
    record = pcap.pcap_record(bytes(1500), 0.0, 1514, False)
    started = time.monotonic()
    for _ in range(10_000):
        captured.write([record])
    assert time.monotonic() - started < 5
    assert len(caplog.messages) == 1
    assert "its reader does not keep up" in caplog.messages[0]
    got = bytearray()

    def read() -> None:
        while data := os.read(reader, 1 << 16):
            got.extend(data)

    thread = threading.Thread(target=read)
    thread.start()
    captured.close()
    thread.join(10)
    os.close(reader)
    frames = [frame for _, frame in pcap.read(bytes(got))]
    assert 1000 < len(frames) < 10_000
    assert set(frames) == {bytes(1500)}


def test_a_reader_that_has_gone_ends_the_capture(caplog: pytest.LogCaptureFixture) -> None:
    reader, captured = pipe()
    os.close(reader)
    link = CapturedLink(FakeLink(), captured)
    assert len(link.read_frames(64)) == 2
    captured.close()
    assert len(caplog.messages) == 1
    assert "the capture ends here" in caplog.messages[0]
