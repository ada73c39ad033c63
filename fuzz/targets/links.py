"""Formats around the frames: the stream of frames of a socket, captures, the header of offloads.

Only `Malformed` or the documented error is raised; streams mean the same however they are cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fuzz.choices import Choices
from fuzz.registry import target
from sansnet_core import pcap
from sansnet_core.errors import Malformed
from sansnet_core.link.stream import FrameDecoder, FrameLengthError
from sansnet_core.wire import virtio_net
from tests.fuzz import corpus

__all__ = ["capture", "frame_stream", "offload_header"]


def _pieces(choices: Choices, data: bytes) -> Iterator[bytes]:
    """The data, cut into pieces as the choices say."""
    while data:
        size = 1 + choices.number(64)
        yield data[:size]
        data = data[size:]


@target(words=(b"\0\0\0\x0e", b"\0\1\0\0"))
def frame_stream(data: bytes) -> None:
    """Frames behind their lengths, read at once and in pieces."""
    choices = Choices(data)
    cuts = Choices(choices.take(choices.number(8)))
    stream = choices.rest()
    found = []
    for pieces in ([stream], _pieces(cuts, stream)):
        decoder = FrameDecoder()
        frames: list[bytes] = []
        ended = False
        try:
            for piece in pieces:
                decoder.receive(piece)
                frames += decoder.take_frames(1000)
        except FrameLengthError:
            ended = True
        found.append((frames, ended))
    (whole, ended), (some, ended_too) = found
    assert ended == ended_too, "an impossible length depends on the pieces"
    assert whole == some or (ended and not whole), "frames depend on the pieces"


@target(words=(b"\1\1", b"\1\4", b"\1\5"))
def offload_header(data: bytes) -> None:
    """A frame behind a `virtio_net_hdr`."""
    completed = virtio_net.complete(data)
    try:
        virtio_net.parse(data)
    except Malformed:
        assert completed == data[12:]
    assert len(completed) == len(data[12:])


def _captures() -> Iterable[bytes]:
    whole = pcap.pcap_header(65535)
    for number, frame in enumerate(list(corpus.frames().values())[:5]):
        whole += pcap.pcap_record(frame, 1000.5 + number, 65535, vnet=False)
    return [whole]


@target(seeds=_captures)
def capture(data: bytes) -> None:
    """A capture, which a stranger may have made."""
    try:
        found = list(pcap.read(data))
    except ValueError:
        return
    assert sum(16 + len(frame) for _, frame in found) <= len(data) - 24
    if any(seconds >= 1 << 32 for seconds, _ in found):
        return  # more microseconds than a second has, behind the last second that can be written
    written = pcap.pcap_header(65535)
    for seconds, frame in found:
        written += pcap.pcap_record(frame, seconds, 65535, vnet=False)
    assert [frame for _, frame in pcap.read(written)] == [frame for _, frame in found]
