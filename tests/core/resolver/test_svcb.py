"""HTTPS and SVCB records without what leads around the rules."""

from __future__ import annotations

import dns.rdata
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.resolver.svcb import sanitize


def of(text: str) -> bytes:
    data = dns.rdata.from_text("IN", "HTTPS", text).to_wire()
    assert data is not None
    return data


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("1 .", "1 ."),
        ("0 svc.example.net.", "0 svc.example.net."),
        ("1 . port=8443", "1 . port=8443"),
        ("1 . ipv4hint=192.0.2.1 ipv6hint=2001:db8::1", "1 ."),
        ("1 svc.example. alpn=h2 ech=AAj+DQAEYWJjZA==", "1 svc.example. alpn=h2"),
        ("1 . mandatory=ech alpn=h2 ech=AAj+DQAEYWJjZA==", None),
        ("1 . mandatory=ipv4hint ipv4hint=192.0.2.1", None),
        ("1 . mandatory=port port=8443 ipv4hint=192.0.2.1", "1 . mandatory=port port=8443"),
        ("1 . alpn=h3", "1 ."),
        ("1 . alpn=h3,h2", "1 . alpn=h2"),
        ("1 . alpn=h3-29,h3,http/1.1", "1 . alpn=http/1.1"),
        ("1 . alpn=h3 no-default-alpn", None),
        ("1 . mandatory=alpn alpn=h3", None),
        ("1 . key65333=abc ipv4hint=192.0.2.1", "1 . key65333=abc"),
    ],
)
def test_parameters_are_taken_out(before: str, after: str | None) -> None:
    assert sanitize(of(before), udp=False) == (None if after is None else of(after))


def test_http3_stays_if_udp_is_open() -> None:
    assert sanitize(of("1 . alpn=h3,h2 ipv4hint=192.0.2.1"), udp=True) == of("1 . alpn=h3,h2")


def test_a_compressed_target_hides_no_parameters() -> None:
    """A pointer of two bytes is not the length of a label that covers the rest."""
    hidden = b"\0\4\0\4" + bytes((192, 0, 2, 1))
    record = b"\0\1\xc0\x0c" + hidden
    assert sanitize(record.ljust(2 + 1 + 0xC0, b"\xff") + b"\0", udp=True) is None


@given(st.binary(max_size=60), st.booleans())
def test_any_bytes_do_no_harm(data: bytes, udp: bool) -> None:
    result = sanitize(data, udp=udp)
    assert result is None or sanitize(result, udp=udp) == result


@given(st.data())
def test_a_record_that_is_cut_is_left_out_or_harmless(data: st.DataObject) -> None:
    whole = of("1 svc.example. alpn=h2,h3 port=443 ipv4hint=192.0.2.1 ech=AAj+DQAEYWJjZA==")
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    result = sanitize(cut, udp=True)
    assert result is None or b"\xc0\0\x02\x01" not in result
