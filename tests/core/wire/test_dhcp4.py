from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.addresses import parse as address
from sansnet_core.errors import Malformed, Reason
from sansnet_core.wire import dhcp4
from sansnet_core.wire.dhcp4 import Message
from tests.core.clients import datagrams

MAC = bytes.fromhex("02000000000a")
NOWHERE = bytes(4)

HEAD: Final = bytes.fromhex(
    "01 01 06 00 11223344 0000 8000"
    "c0000201 c0000202 00000000 c0000203"
    "02000000000a 00000000000000000000"
)  # fmt: skip
COOKIE: Final = bytes.fromhex("63825363")


def vector(options: bytes, *, sname: bytes = b"", file: bytes = b"", cookie: bytes = COOKIE) -> bytes:
    return HEAD + sname.ljust(64, b"\0") + file.ljust(128, b"\0") + cookie + options


def options(data: bytes, *, sname: bytes = b"", file: bytes = b"") -> dict[int, bytes]:
    buf = vector(data, sname=sname, file=file)
    return dict(dhcp4.parse(buf, 0, len(buf)).options)


VECTOR: Final = vector(bytes.fromhex("350103 3204c0000209 ff")).ljust(300, b"\0")
MESSAGE: Final = Message(
    operation=dhcp4.BOOTREQUEST,
    hardware_type=1,
    transaction=0x11223344,
    flags=dhcp4.BROADCAST_FLAG,
    client=address("192.0.2.1"),
    yours=address("192.0.2.2"),
    relay=address("192.0.2.3"),
    hardware=MAC,
    options={dhcp4.MESSAGE_TYPE: b"\3", dhcp4.REQUESTED_ADDRESS: address("192.0.2.9")},
)


def test_a_message_is_read() -> None:
    assert dhcp4.parse(b"?" * 7 + VECTOR + b"?", 7, 7 + 300) == MESSAGE


def test_a_message_is_written() -> None:
    assert dhcp4.emit(MESSAGE) == VECTOR


def test_the_type_is_an_option() -> None:
    assert MESSAGE.type == dhcp4.REQUEST
    assert MESSAGE._replace(options={}).type is None
    assert MESSAGE._replace(options={dhcp4.MESSAGE_TYPE: b"\1\1"}).type == 0


def test_bootp_has_no_options() -> None:
    for buf in (vector(b"", cookie=bytes(4)), vector(b"\x35\1\1\xff", cookie=bytes(4)), vector(b"\xff")):
        message = dhcp4.parse(buf, 0, len(buf))
        assert message.options == {}
        assert message.type is None


def test_options_of_one_code_are_joined() -> None:
    assert options(bytes.fromhex("7703414243 00 0c0161 77024445 ff 7701ff")) == {119: b"ABCDE", 12: b"a"}


def test_a_missing_end_mark_is_forgiven() -> None:
    assert options(bytes.fromhex("350101")) == {53: b"\1"}


@pytest.mark.parametrize(
    ("overload", "found"),
    [
        (0, {53: b"\1"}),
        (1, {53: b"\1", 12: b"file"}),
        (2, {53: b"\1", 12: b"sname"}),
        (3, {53: b"\1", 12: b"filesname"}),
    ],
)
def test_options_overflow_into_file_and_sname(overload: int, found: dict[int, bytes]) -> None:
    data = bytes([52, 1, overload, 53, 1, 1, 255])
    assert options(data, sname=b"\x0c\5sname\xff", file=b"\x0c\4file") == found


def test_an_overload_option_in_file_has_no_meaning() -> None:
    assert options(b"\x34\1\1\xff", file=b"\x34\1\3\x0c\4file", sname=b"\x0c\5sname") == {12: b"file"}


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(VECTOR[:239], id="truncated"),
        pytest.param(vector(b"\xff", cookie=b"\1\2\3\4"), id="cookie"),
        pytest.param(VECTOR[:2] + b"\x11" + VECTOR[3:], id="hardware size"),
        pytest.param(vector(b"\x35\2\1"), id="option longer than the message"),
        pytest.param(vector(b"\x35"), id="option without a length"),
        pytest.param(vector(b"\x34\1\4\xff"), id="overload of nothing"),
        pytest.param(vector(b"\x34\2\1\1\xff"), id="overload of two bytes"),
        pytest.param(vector(b"\x34\1\1\xff", file=b"\0" * 127 + b"\x0c"), id="broken option in file"),
        pytest.param(VECTOR.ljust(4097, b"\0"), id="too long"),
        pytest.param(vector(b"\xc8\0" * 257), id="too many options"),
    ],
)
def test_a_broken_message_is_refused(broken: bytes) -> None:
    with pytest.raises(Malformed, match=Reason.DHCP_MALFORMED.value):
        dhcp4.parse(broken, 0, len(broken))


@pytest.mark.parametrize("large", [VECTOR.ljust(4096, b"\0"), vector(b"\x35\1\3" + b"\xc8\0" * 255)])
def test_a_message_may_be_large(large: bytes) -> None:
    assert dhcp4.parse(bytes(42) + large, 42, 42 + len(large)).type == dhcp4.REQUEST


@pytest.mark.parametrize("size", [0, 1, 255, 256, 510, 511])
def test_long_options_are_written_in_pieces_and_read_back_whole(size: int) -> None:
    message = MESSAGE._replace(options={119: bytes(size), 12: b"a"})
    data = dhcp4.emit(message)
    assert dhcp4.parse(data, 0, len(data)) == message
    assert len(data) == max(300, 240 + dhcp4.option_size(bytes(size)) + 3 + 1)


def test_the_summary_says_who_wants_what() -> None:
    whole = "DHCP request, from 02:00:00:00:00:0a, client 192.0.2.1, yours 192.0.2.2"
    assert dhcp4.summary(VECTOR, 0, 300) == whole
    assert dhcp4.summary(vector(b""), 0, 240).startswith("DHCP bootp")
    assert dhcp4.summary(vector(b"\x35\1\x63"), 0, 243).startswith("DHCP type 99")
    assert dhcp4.summary(VECTOR, 0, 20) == f"DHCP, {Reason.DHCP_MALFORMED.value}"


def test_what_clients_send_is_read() -> None:
    messages = [dhcp4.parse(buf, udp.start, udp.end) for _, udp, buf in datagrams(dhcp4.SERVER_PORT)]
    assert [message.type for message in messages] == [
        dhcp4.DISCOVER,  # busybox
        dhcp4.REQUEST,
        dhcp4.REQUEST,  # dhclient, with a lease of another network; then from the beginning
        dhcp4.DISCOVER,
        dhcp4.REQUEST,
    ]
    assert len({message.hardware for message in messages}) == 1
    assert messages[0].options[dhcp4.REQUESTED_ADDRESS] == address("10.9.9.9")
    assert messages[1].options[dhcp4.SERVER_ID] == address("192.0.2.1")


@given(
    st.dictionaries(st.integers(1, 254).filter(lambda code: code != 52), st.binary(max_size=600), max_size=5),
    st.binary(max_size=16),
)
def test_what_is_written_is_read_back(found: dict[int, bytes], hardware: bytes) -> None:
    message = MESSAGE._replace(options=found, hardware=hardware)
    data = dhcp4.emit(message)
    assert dhcp4.parse(data, 0, len(data)) == message
    assert list(dhcp4.parse(data, 0, len(data)).options) == list(found)


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=80).map(vector)))
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    assert dhcp4.summary(data, 0, len(data)).startswith("DHCP")
