"""No bytes from the guest make the network raise, and what it answers is well-formed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sansnet_core import LinkConfig
from tests.fuzz.corpus import frames
from tests.fuzz.harness import Harness, fix_ipv4_checksum

_FRAMES = frames()
_LINKS = {
    "plain": LinkConfig(mtu=1500, max_frame_size=1514),
    "verifying": LinkConfig(mtu=1500, max_frame_size=1514, verify_checksums=True),
    "offload": LinkConfig(
        mtu=1500, max_frame_size=65549, vnet_header=True, checksum_offload=True, tso4=True, tso6=True, uso=True
    ),
}
links = st.sampled_from(sorted(_LINKS))
ethertypes = st.sampled_from([b"\x08\x00", b"\x08\x06", b"\x86\xdd"])
interesting = st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, 8, 15, 16, 17, 20, 40, 43, 44, 58, 60, 64, 127, 128, 254, 255])
mutations = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 120), st.one_of(interesting, st.integers(0, 255))),
        st.tuples(st.just("flip"), st.integers(12, 120), st.integers(0, 7)),
        st.tuples(st.just("cut"), st.integers(0, 200), st.just(0)),
        st.tuples(st.just("insert"), st.integers(12, 120), st.integers(1, 40)),
        st.tuples(st.just("remove"), st.integers(12, 120), st.integers(1, 20)),
        st.tuples(st.just("append"), st.integers(1, 1400), st.integers(0, 255)),
    ),
    max_size=6,
)


def _mutated(frame: bytes, changes: list[tuple[str, int, int]]) -> bytes:
    data = bytearray(frame)
    for kind, place, value in changes:
        if kind == "cut":
            del data[place:]
        elif kind == "insert":
            data[place:place] = bytes(value)
        elif kind == "remove":
            del data[place : place + value]
        elif kind == "append":
            data += bytes((value,)) * place
        elif place < len(data):
            data[place] = value if kind == "set" else data[place] ^ 1 << value
    return bytes(data)


@pytest.mark.parametrize("name", _FRAMES)
@pytest.mark.parametrize("link", _LINKS)
def test_every_seed_passes(link: str, name: str) -> None:
    harness = Harness(_LINKS[link])
    harness.receive(_FRAMES[name])
    for socket in harness.open_sockets():
        harness.answer(socket, b"answer")
    harness.advance(300.0)


@pytest.mark.parametrize("name", _FRAMES)
def test_every_seed_cut_anywhere_passes(name: str) -> None:
    harness = Harness()
    frame = _FRAMES[name]
    for size in range(len(frame)):
        harness.receive(frame[:size], fix_ipv4_checksum(frame[:size]))


@pytest.mark.slow
@settings(max_examples=300)
@given(link=links, batch=st.lists(st.binary(max_size=120), max_size=5))
def test_random_bytes(link: str, batch: list[bytes]) -> None:
    Harness(_LINKS[link]).receive_raw(*batch)


@pytest.mark.slow
@settings(max_examples=500)
@given(link=links, ethertype=ethertypes, bodies=st.lists(st.binary(max_size=150), min_size=1, max_size=4))
def test_random_bytes_behind_an_ethernet_header(link: str, ethertype: bytes, bodies: list[bytes]) -> None:
    harness = Harness(_LINKS[link])
    head = harness.guest.gateway_mac + harness.guest.mac + ethertype
    harness.receive(*(fix_ipv4_checksum(head + body) for body in bodies))
    harness.advance(60.0)


@pytest.mark.slow
@settings(max_examples=300)
@given(header=st.binary(min_size=12, max_size=12), name=st.sampled_from(sorted(_FRAMES)))
def test_random_offload_headers(header: bytes, name: str) -> None:
    harness = Harness(_LINKS["offload"])
    harness.receive_raw(header + _FRAMES[name])


@pytest.mark.slow
@settings(max_examples=600)
@given(
    flags=st.sampled_from([0, 1, 2, 3]),
    gso_type=st.sampled_from([0, 1, 4, 5, 0x81]),
    numbers=st.tuples(*[st.sampled_from([0, 1, 8, 20, 34, 42, 54, 62, 74, 1000, 65535])] * 4),
    name=st.sampled_from(sorted(_FRAMES)),
    changes=mutations,
)
def test_likely_offload_headers(
    flags: int, gso_type: int, numbers: tuple[int, ...], name: str, changes: list[tuple[str, int, int]]
) -> None:
    harness = Harness(_LINKS["offload"])
    header = bytes((flags, gso_type)) + b"".join(number.to_bytes(2, "little") for number in numbers) + bytes(2)
    harness.receive_raw(header + fix_ipv4_checksum(_mutated(_FRAMES[name], changes)))


@pytest.mark.slow
@settings(max_examples=1500)
@given(
    link=links,
    batch=st.lists(st.tuples(st.sampled_from(sorted(_FRAMES)), mutations, st.booleans()), min_size=1, max_size=8),
    pause=st.sampled_from([0.0, 0.001, 1.0, 100.0]),
)
def test_mutated_frames(link: str, batch: list[tuple[str, list[tuple[str, int, int]], bool]], pause: float) -> None:
    harness = Harness(_LINKS[link])
    for name, changes, fix in batch:
        frame = _mutated(_FRAMES[name], changes)
        harness.receive(fix_ipv4_checksum(frame) if fix else frame)
        harness.advance(pause)
    for socket in harness.open_sockets():
        harness.answer(socket, b"answer")
    harness.advance(1000.0)
