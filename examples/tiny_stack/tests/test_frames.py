"""Any frames against the stack."""

from __future__ import annotations

from hypothesis import given, note, settings
from hypothesis import strategies as st
from tiny_stack import Stack

from sansnet_core import Ipv4Config, LinkConfig, NetworkConfig
from sansnet_core.summary import summary
from sansnet_core.testing.packets import read_frame, read_ip
from sansnet_core.testing.strategies import frames, valid_frames

MAC = bytes.fromhex("020000000009")
ADDRESS = bytes((10, 0, 2, 2))
PEER = bytes.fromhex("020000000001")

# The frames come from the guest of a network. So for them the stack is the network's side, with its addresses
CONFIG = NetworkConfig(
    mac=MAC,
    guest_mac=PEER,
    ipv4=Ipv4Config(address="10.0.2.15/24", gateway=ADDRESS),
    link=LinkConfig(mtu=1500, max_frame_size=1514),
)


def check_answers(stack: Stack, frame: bytes) -> list[bytes]:
    note(summary(frame))  # Hypothesis shows it if the test fails
    answers = stack.receive(frame)
    for answer in answers:
        read = read_frame(answer, vnet=False)
        assert not read.destination[0] & 1, "an answer to a group"
        if read.ethertype == 0x0800:
            assert read_ip(read).source == ADDRESS  # the lengths and checksums are verified, too
    assert len(answers) <= 1
    assert sum(map(len, answers)) <= max(len(frame), 60)
    return answers


@settings(deadline=None)
@given(st.lists(frames(CONFIG), max_size=10))
def test_nothing_raises(received: list[bytes]) -> None:
    stack = Stack(MAC, ADDRESS, PEER)
    for frame in received:
        check_answers(stack, frame)


@settings(deadline=None)
@given(valid_frames(CONFIG, ["arp", "icmp"]))
def test_each_ping_is_answered(frame: bytes) -> None:
    answers = check_answers(Stack(MAC, ADDRESS, PEER), frame)
    ping = frame[12:15] == b"\x08\0\x45" and frame[23] == 1 and frame[34] == 8 and frame[30:34] == ADDRESS
    whole = int.from_bytes(frame[20:22], "big") & 0x3FFF == 0
    if ping and whole:
        assert len(answers) == 1
