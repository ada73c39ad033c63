from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.errors import Malformed, Reason
from sansnet_core.wire import udp
from sansnet_core.wire.ip import UDP
from tests.core.vectors import A4, ANY_FRAME, B4, ENDS, header, packets

# Ports 1000 and 53, 12 bytes, checksum; then "data"
VECTOR = bytes.fromhex("03e80035000c9ef2") + b"data"


def reason(data: bytes, version: int = 4, verify: bool = True) -> Reason:
    with pytest.raises(Malformed) as caught:
        udp.parse(data, header(UDP, len(data), version), verify)
    return caught.value.reason


def test_a_datagram_is_read() -> None:
    assert udp.parse(VECTOR, header(UDP, 12), True) == udp.UdpHeader(1000, 53, 8, 12)


def test_a_datagram_is_written() -> None:
    assert udp.emit(A4, B4, 1000, 53, b"data") == VECTOR


@pytest.mark.parametrize("version", [4, 6])
def test_a_datagram_may_be_empty(version: int) -> None:
    data = udp.emit(*ENDS[version], 1000, 53, b"")
    assert len(data) == 8
    assert udp.parse(data, header(UDP, 8, version), True) == udp.UdpHeader(1000, 53, 8, 8)


def test_what_the_length_does_not_cover_is_no_data() -> None:
    assert udp.parse(VECTOR + b"more", header(UDP, 16), True).end == 12


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(VECTOR[:7], id="shorter than a header"),
        pytest.param(VECTOR[:-1], id="length beyond the packet"),
        pytest.param(VECTOR[:4] + b"\0\7" + VECTOR[6:], id="length below the header's"),
    ],
)
def test_a_length_that_is_wrong_is_refused(data: bytes) -> None:
    assert reason(data) is Reason.UDP_MALFORMED


@pytest.mark.parametrize("data", [b"\0\0" + VECTOR[2:], VECTOR[:2] + b"\0\0" + VECTOR[4:]])
def test_port_0_is_refused(data: bytes) -> None:
    assert reason(data) is Reason.UDP_PORT


@pytest.mark.parametrize("version", [4, 6])
def test_a_wrong_checksum_is_refused_if_asked(version: int) -> None:
    data = VECTOR[:-1] + b"?"
    assert reason(data, version) is Reason.UDP_CHECKSUM
    assert udp.parse(data, header(UDP, 12, version), False).end == 12


@pytest.mark.parametrize("verify", [False, True])
def test_a_datagram_without_checksum_is_for_ipv4_only(verify: bool) -> None:
    data = VECTOR[:6] + b"\0\0" + VECTOR[8:]
    assert udp.parse(data, header(UDP, 12), verify).end == 12
    assert reason(data, 6, verify) is Reason.UDP_CHECKSUM


def test_what_linux_sends_is_read_and_written_back() -> None:
    found = packets(UDP)
    assert [ip.version for _, ip in found] == [4, 6]
    for frame, ip in found:
        datagram = udp.parse(frame, ip, True)
        data = frame[datagram.start : datagram.end]
        written = udp.emit(ip.source, ip.destination, datagram.source_port, datagram.destination_port, data)
        assert written == frame[ip.start : ip.end]


PORT = st.integers(1, 65535)


@given(st.sampled_from([4, 6]), PORT, PORT, st.binary(max_size=60))
def test_every_datagram_that_is_written_is_read(version: int, source: int, destination: int, payload: bytes) -> None:
    data = udp.emit(*ENDS[version], source, destination, payload)
    datagram = udp.parse(data, header(UDP, len(data), version), True)
    assert datagram == (source, destination, 8, len(data))
    assert data[datagram.start :] == payload


@given(ANY_FRAME, st.sampled_from([4, 6]), st.booleans())
def test_any_bytes_are_a_header_or_malformed(data: bytes, version: int, verify: bool) -> None:
    try:
        datagram = udp.parse(data, header(UDP, len(data), version), verify)
    except Malformed:
        return
    assert 8 == datagram.start <= datagram.end <= len(data)
