from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.errors import Malformed, Reason
from sansnet_core.wire import icmp4, icmp6
from sansnet_core.wire.ip import ICMP, ICMPV6
from tests.core.vectors import A6, ANY_FRAME, B6, header, packets

# Echo request, identifier 0x1234, sequence number 5
VECTOR4 = bytes.fromhex("08000d0412340005") + b"data"
# The same between 2001:db8::1 and 2001:db8::2
VECTOR6 = bytes.fromhex("8000394812340005") + b"data"


def test_a_message_is_read() -> None:
    assert icmp4.parse(VECTOR4, header(ICMP, 12), True) == (icmp4.ECHO_REQUEST, 0, 0x12340005, 8, 12)
    assert icmp6.parse(VECTOR6, header(ICMPV6, 12, 6), True) == (icmp6.ECHO_REQUEST, 0, 0x12340005, 8, 12)


def test_a_message_is_written() -> None:
    assert icmp4.emit(icmp4.ECHO_REQUEST, 0, 0x12340005, b"data") == VECTOR4
    assert icmp6.emit(icmp6.ECHO_REQUEST, 0, 0x12340005, b"data", A6, B6) == VECTOR6


@pytest.mark.parametrize("size", [0, 7])
def test_a_message_without_its_header_is_refused(size: int) -> None:
    with pytest.raises(Malformed, match=Reason.ICMP_MALFORMED.value):
        icmp4.parse(VECTOR4[:size], header(ICMP, size), False)
    with pytest.raises(Malformed, match=Reason.ICMP_MALFORMED.value):
        icmp6.parse(VECTOR6[:size], header(ICMPV6, size, 6), False)


def test_a_wrong_checksum_is_refused_if_asked() -> None:
    broken4, broken6 = VECTOR4[:-1] + b"?", VECTOR6[:-1] + b"?"
    with pytest.raises(Malformed, match=Reason.ICMP_MALFORMED.value):
        icmp4.parse(broken4, header(ICMP, 12), True)
    with pytest.raises(Malformed, match=Reason.ICMP_MALFORMED.value):
        icmp6.parse(broken6, header(ICMPV6, 12, 6), True)
    assert icmp4.parse(broken4, header(ICMP, 12), False).end == 12
    assert icmp6.parse(broken6, header(ICMPV6, 12, 6), False).end == 12


def test_the_summary_is_about_a_message_whose_checksum_is_not_complete_too() -> None:
    assert icmp4.summary(VECTOR4[:-1] + b"?", header(ICMP, 12), "a", "b") == (
        "a > b: ICMP echo request, id 4660, seq 5, length 12"
    )
    assert icmp6.summary(VECTOR6[:-1] + b"?", header(ICMPV6, 12, 6), "a", "b") == (
        "a > b: ICMP6, echo request, id 4660, seq 5, length 12"
    )


def test_what_linux_sends_is_read_and_written_back() -> None:
    kinds = []
    for frame, ip in packets(ICMP):
        icmp = icmp4.parse(frame, ip, True)
        kinds.append(icmp.type)
        assert icmp4.emit(*icmp[:3], frame[icmp.start : icmp.end]) == frame[ip.start : ip.end]
    assert kinds == [icmp4.DESTINATION_UNREACHABLE, icmp4.ECHO_REQUEST, icmp4.ECHO_REPLY]


def test_what_linux_sends_over_ipv6_is_read_and_written_back() -> None:
    kinds = []
    for frame, ip in packets(ICMPV6):
        icmp = icmp6.parse(frame, ip, True)
        kinds.append(icmp.type)
        written = icmp6.emit(*icmp[:3], frame[icmp.start : icmp.end], ip.source, ip.destination)
        assert written == frame[ip.start : ip.end]
    assert kinds == [
        icmp6.NEIGHBOUR_SOLICITATION,
        icmp6.NEIGHBOUR_ADVERTISEMENT,
        icmp6.DESTINATION_UNREACHABLE,
        icmp6.ECHO_REQUEST,
        icmp6.ECHO_REPLY,
        icmp6.ROUTER_SOLICITATION,
        icmp6.ROUTER_SOLICITATION,
    ]


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 0xFFFFFFFF), st.binary(max_size=60))
def test_every_message_that_is_written_is_read(kind: int, code: int, rest: int, payload: bytes) -> None:
    expected = kind, code, rest, 8, 8 + len(payload)
    four = icmp4.emit(kind, code, rest, payload)
    assert icmp4.parse(four, header(ICMP, len(four)), True) == expected
    assert four[8:] == payload
    six = icmp6.emit(kind, code, rest, payload, A6, B6)
    assert icmp6.parse(six, header(ICMPV6, len(six), 6), True) == expected
    assert six[8:] == payload


@given(ANY_FRAME, st.booleans())
def test_any_bytes_are_a_header_or_malformed(data: bytes, verify: bool) -> None:
    for parse, ip in (
        (icmp4.parse, header(ICMP, len(data))),
        (icmp6.parse, header(ICMPV6, len(data), 6)),
    ):
        try:
            icmp = parse(data, ip, verify)
        except Malformed:
            continue
        assert 8 == icmp.start <= icmp.end == len(data)
