from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.addresses import parse as address
from sansnet_core.errors import Malformed, Reason
from sansnet_core.wire import dhcp6
from sansnet_core.wire.dhcp6 import Association, Message
from tests.core.clients import datagrams
from tests.core.vectors import A6

VECTOR: Final = bytes.fromhex(
    "01 abcdef"
    "0001 000a 00030001 02000000000a"
    "0003 0028 00000007 ffffffff ffffffff  0005 0018 20010db8000000000000000000000001 00000e10 00000e10"
    "000e 0000"
)  # fmt: skip
ADDRESS: Final = dhcp6.emit_address(A6, 3600)
MESSAGE: Final = Message(
    dhcp6.SOLICIT,
    0xABCDEF,
    (
        (dhcp6.CLIENT_ID, dhcp6.duid(bytes.fromhex("02000000000a"))),
        dhcp6.emit_association(dhcp6.IA_NA, b"\0\0\0\7", [ADDRESS], times=(dhcp6.FOREVER, dhcp6.FOREVER)),
        (dhcp6.RAPID_COMMIT, b""),
    ),
)


def test_a_message_is_read() -> None:
    assert dhcp6.parse(b"?" * 3 + VECTOR + b"?", 3, 3 + len(VECTOR)) == MESSAGE


def test_a_message_is_written() -> None:
    assert dhcp6.emit(MESSAGE) == VECTOR


def test_the_first_option_of_a_code_counts() -> None:
    message = Message(1, 1, ((6, b"a"), (6, b"b")))
    assert message.option(6) == b"a"
    assert message.option(7) is None


@pytest.mark.parametrize(
    ("option", "found"),
    [
        (MESSAGE.options[1], Association(dhcp6.IA_NA, b"\0\0\0\7", (A6,))),
        (dhcp6.emit_association(dhcp6.IA_TA, b"\0\0\0\1", [ADDRESS]), Association(dhcp6.IA_TA, b"\0\0\0\1", (A6,))),
        (dhcp6.emit_association(dhcp6.IA_PD, b"\0\0\0\2", []), Association(dhcp6.IA_PD, b"\0\0\0\2", ())),
        (
            dhcp6.emit_association(dhcp6.IA_NA, b"\0\0\0\3", [dhcp6.emit_status(0, "fine"), ADDRESS, ADDRESS]),
            Association(dhcp6.IA_NA, b"\0\0\0\3", (A6, A6)),
        ),
    ],
)
def test_an_association_is_read(option: dhcp6.Option, found: Association) -> None:
    assert dhcp6.parse_association(option) == found


@pytest.mark.parametrize(
    "option",
    [
        pytest.param((dhcp6.IA_NA, bytes(11)), id="no times"),
        pytest.param((dhcp6.IA_TA, bytes(3)), id="no id"),
        pytest.param((dhcp6.IA_NA, bytes(12) + b"\0\5\0\x17" + bytes(23)), id="short address"),
        pytest.param((dhcp6.IA_NA, bytes(12) + b"\0\5\0"), id="truncated option"),
        pytest.param((dhcp6.IA_NA, bytes(12) + b"\0\xc8\0\0" * 129), id="too many options"),
    ],
)
def test_a_broken_association_is_refused(option: dhcp6.Option) -> None:
    with pytest.raises(Malformed, match=Reason.DHCP_MALFORMED.value):
        dhcp6.parse_association(option)


@pytest.mark.parametrize("size", [0, 3, 5, 17, len(VECTOR) - 1])
def test_a_truncated_message_is_refused(size: int) -> None:
    with pytest.raises(Malformed, match=Reason.DHCP_MALFORMED.value):
        dhcp6.parse(VECTOR, 0, size)


@pytest.mark.parametrize(
    "long",
    [
        pytest.param(b"\1abc\0\xc8" + (4089).to_bytes(2, "big") + bytes(4089), id="bytes"),
        pytest.param(b"\1abc" + b"\0\xc8\0\0" * 129, id="options"),
    ],
)
def test_a_message_with_too_many_of_them_is_refused(long: bytes) -> None:
    with pytest.raises(Malformed, match=Reason.DHCP_MALFORMED.value):
        dhcp6.parse(long, 0, len(long))


@pytest.mark.parametrize(
    "large", [b"\1abc\0\xc8" + (4088).to_bytes(2, "big") + bytes(4088), b"\1abc" + b"\0\xc8\0\0" * 128]
)
def test_a_message_may_be_large(large: bytes) -> None:
    assert dhcp6.emit(dhcp6.parse(large, 0, len(large))) == large


def test_a_status_is_a_code_and_a_text() -> None:
    assert dhcp6.emit_status(dhcp6.NOT_ON_LINK, "no") == (13, b"\0\4no")


def test_the_summary_says_what_it_is_about() -> None:
    assert dhcp6.summary(VECTOR, 0, len(VECTOR)) == "DHCPv6 solicit, transaction abcdef, options 1, 3, 14"
    assert dhcp6.summary(b"\x63\0\0\1", 0, 4) == "DHCPv6 type 99, transaction 000001, options none"
    assert dhcp6.summary(VECTOR, 0, 3) == f"DHCPv6, {Reason.DHCP_MALFORMED.value}"


def test_what_dhclient_sends_is_read_and_written_back() -> None:
    kinds = []
    for _, udp, buf in datagrams(dhcp6.SERVER_PORT):
        message = dhcp6.parse(buf, udp.start, udp.end)
        kinds.append(message.type)
        assert dhcp6.emit(message) == buf[udp.start : udp.end]
        for option in message.options:
            if option[0] == dhcp6.IA_NA:
                assert set(dhcp6.parse_association(option).addresses) <= {address("2001:db8::15")}
    assert kinds == [dhcp6.SOLICIT, dhcp6.REQUEST, dhcp6.CONFIRM, dhcp6.INFORMATION_REQUEST, dhcp6.RELEASE]


@given(
    st.integers(0, 255),
    st.integers(0, 0xFFFFFF),
    st.lists(st.tuples(st.integers(0, 65535), st.binary(max_size=40)), max_size=8).map(tuple),
)
def test_what_is_written_is_read_back(kind: int, transaction: int, found: tuple[dhcp6.Option, ...]) -> None:
    message = Message(kind, transaction, found)
    data = dhcp6.emit(message)
    assert dhcp6.parse(data, 0, len(data)) == message


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    assert dhcp6.summary(data, 0, len(data)).startswith("DHCPv6")


@given(st.sampled_from([dhcp6.IA_NA, dhcp6.IA_TA, dhcp6.IA_PD]), st.binary(max_size=100))
def test_any_bytes_are_an_association_or_malformed(kind: int, value: bytes) -> None:
    try:
        found = dhcp6.parse_association((kind, value))
    except Malformed:
        return
    assert found.id == value[:4]
