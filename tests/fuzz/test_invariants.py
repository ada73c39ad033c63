"""Any sequence of operations keeps these as well, beside those of `test_sequences`:

- the numbers of flows, questions, timers and bytes stay within the limits after each operation;
- a sequence that is repeated leaves no more behind than the first time, and no number grows while it is repeated;
- a stream that was refused a budget is resumed as soon as there is one;
- acknowledgments that repeat themselves are answered a few times at most;
- every frame is one that scapy would make, too;
- the same inputs give the same bytes in another process, with another seed of hashes, and for any split into batches;
- an input costs a bounded amount of work and a bounded number of frames, for each frame or byte that it brings.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sansnet_core import Endpoint, Network
from sansnet_core.proto.tcp.memory import PROMISE
from sansnet_core.testing.operations import OPERATIONS, Operation, Setting, World, decode, do, encode, steps
from sansnet_core.testing.packets import ACK, ARP, RST, TCP, read_frame, read_ip, read_segments
from sansnet_core.testing.strategies import sequences
from sansnet_core.testing.strategies import settings as any_settings
from sansnet_core.testing.strategies.sequences import one_of
from tests.fuzz import corpus
from tests.fuzz.bounds import check_bounds, size_of
from tests.fuzz.cost import lines_of
from tests.fuzz.scapy_check import check_by_scapy
from tests.fuzz.test_sequences import TCP_OPERATIONS

_FRAMES = st.sampled_from(sorted(corpus.frames().values()))
_SEQUENCES = sequences(_FRAMES)
_ROOT: Final = Path(__file__).parent.parent.parent


def new_world(setting: Setting, **fields: Any) -> World:
    return World(setting.config(), connects=setting.connects, **fields)


@pytest.mark.slow
@settings(max_examples=200)
@given(setting=any_settings(), operations=_SEQUENCES)
def test_all_numbers_stay_within_the_limits(setting: Setting, operations: list[Operation]) -> None:
    world = new_world(setting)
    for one in operations:
        do(world, [one])
        check_bounds(world)
    world.finish()
    check_bounds(world)


@pytest.mark.slow
@settings(max_examples=60)
@given(setting=any_settings(), operations=sequences(_FRAMES, most=25))
def test_what_is_over_is_forgotten(setting: Setting, operations: list[Operation]) -> None:
    world = new_world(setting)
    sizes = []
    for _ in range(6):
        do(world, operations)
        world.finish()
        world.begin_again()
        sizes.append(size_of(world.network))
    assert sizes[5] - sizes[3] < 100 + sizes[3] // 20, f"the network grows: {sizes}"


@pytest.mark.slow
@settings(max_examples=100)
@given(data=st.data(), setting=any_settings(), kinds=st.sampled_from([OPERATIONS, TCP_OPERATIONS]))
def test_a_cycle_of_operations_stays_within_the_limits(
    data: st.DataObject, setting: Setting, kinds: tuple[type[Operation], ...]
) -> None:
    begin = data.draw(sequences(_FRAMES, kinds, 30))
    cycle = data.draw(sequences(_FRAMES, kinds, 3))
    world = new_world(setting)
    do(world, begin)
    for _ in range(6):
        do(world, cycle * 100)
        check_bounds(world)


@pytest.mark.slow
@settings(max_examples=200)
@given(setting=any_settings(limits=["small", "two"]), operations=sequences(_FRAMES, TCP_OPERATIONS))
def test_a_stream_that_waits_would_get_nothing_now(setting: Setting, operations: list[Operation]) -> None:
    world = new_world(setting)
    for one in operations:
        do(world, [one])
        if world.wait:
            continue
        waiting = [socket.name for socket in world.sockets.streams() if socket.paused]
        for name in waiting:
            asked = copy.deepcopy(world.network)
            world.pass_time(PROMISE)  # room is kept for others for a moment
            assert not asked.receive_budget(name) or not world.sockets.all[name].paused, f"{name} waits for nothing"


_REPEATED: Final = 200
_MOST_ANSWERS: Final = 20
"""Segments for an acknowledgment that is repeated at one moment: data that it allows, and a challenge ACK. A reset is
no answer: it ends the matter (RFC 9293, 3.5.2)."""


@pytest.mark.slow
@settings(max_examples=200)
@given(
    setting=any_settings(),
    operations=sequences(_FRAMES, TCP_OPERATIONS),
    repeated=one_of([steps.GuestSendsSegment], _FRAMES, flags=[ACK], size=[0], sack=[()], options=[b""]),
)
def test_repeated_acknowledgments_are_answered_a_few_times(
    setting: Setting, operations: list[Operation], repeated: Operation
) -> None:
    answers = 0

    def listen(frame: bytes) -> None:
        nonlocal answers
        read = read_frame(frame, vnet=world.config.link.vnet_header)
        answers += read.ethertype != ARP and (ip := read_ip(read)).protocol == TCP and not ip.payload[13] & RST

    world = new_world(setting, listen=listen)
    do(world, operations)
    world.settle_now()
    before = world.counted_in
    do(world, [repeated])
    if world.counted_in == before:
        return  # there is no connection
    answers = 0
    for _ in range(_REPEATED):
        do(world, [steps.GuestRepeats()])
    assert answers <= _MOST_ANSWERS


@pytest.mark.slow
@settings(max_examples=60)
@given(setting=any_settings(), operations=_SEQUENCES)
def test_scapy_would_make_the_same_frames(setting: Setting, operations: list[Operation]) -> None:
    vnet = setting.config().link.vnet_header

    def check(frame: bytes) -> None:
        check_by_scapy(frame[12:] if vnet else frame, partial=vnet and bool(frame[0] & 1))

    world = new_world(setting, listen=check)
    do(world, operations)
    world.finish()


@pytest.mark.slow
@settings(max_examples=100)
@given(setting=any_settings(), operations=_SEQUENCES)
def test_any_split_of_frames_gives_the_same_bytes(setting: Setting, operations: list[Operation]) -> None:
    digests = []
    for split in (False, True):
        world = new_world(setting)
        world.split = split
        do(world, operations)
        world.finish()
        digests.append(world.digest.hexdigest())
    assert digests[0] == digests[1]


_CHILD: Final = """
import sys
from sansnet_core.testing.operations import decode, run
for line in sys.stdin:
    print(run(*decode(bytes.fromhex(line))).digest.hexdigest(), flush=True)
"""


@pytest.mark.slow
def test_other_processes_and_seeds_of_hashes_give_the_same_bytes() -> None:
    programs: list[bytes] = []

    @settings(max_examples=80, database=None)
    @given(setting=any_settings(), operations=_SEQUENCES)
    def collect(setting: Setting, operations: list[Operation]) -> None:
        programs.append(encode(setting, operations))

    collect()
    lines = "".join(f"{program.hex()}\n" for program in programs)
    digests = {
        subprocess.run(
            [sys.executable, "-c", _CHILD],
            input=lines,
            capture_output=True,
            text=True,
            check=True,
            cwd=_ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1", "77")
    }
    assert len(digests) == 1
    assert digests.pop().count("\n") == len(programs)


class Measured(Network):
    """A network that counts the work of each input."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.work: list[tuple[str, int, int]] = []
        """Name of a method, lines that ran, and the number of things that it brought and gave: frames, orders."""

    def __getattribute__(self, name: str) -> Any:
        found = object.__getattribute__(self, name)
        if name not in _INPUTS and name not in _OUTPUTS:
            return found

        def measured(*arguments: Any, **named: Any) -> Any:
            result: list[Any] = []
            lines = lines_of(lambda: result.append(found(*arguments, **named)))
            given = len(arguments[0]) if name == "receive_frames" else 1
            made = len(result[0]) if name in _OUTPUTS else 0
            object.__getattribute__(self, "work").append((name, lines, given + made))
            return result[0]

        return measured


_INPUTS: Final = frozenset(
    ("receive_frames", "stream_sent", "stream_received", "stream_ended", "stream_failed", "stream_connected",
     "datagram_received", "datagram_failed", "echo_received", "echo_failed", "handle_deadline", "receive_budget",
     "flow_decided", "service_sent", "stream_accepted", "stream_opened")
)  # fmt: skip
_OUTPUTS: Final = frozenset(("take_orders", "take_frames"))
_MOST_LINES: Final = 4000
"""For each thing that an input brings or an output gives."""
_MOST_REPEATED: Final = 40
"""Frames with data that was sent before, for each input."""


@pytest.mark.slow
@settings(max_examples=60)
@given(setting=any_settings(), operations=_SEQUENCES)
def test_the_work_for_an_input_is_bounded(setting: Setting, operations: list[Operation]) -> None:
    world = new_world(setting, network=Measured)
    do(world, operations)
    network: Any = world.network
    for name, lines, size in network.work:
        assert lines <= _MOST_LINES * size, f"{name}: {lines} lines for {size}"


class Counted(Network):
    """A network that counts its inputs."""

    inputs = 0

    def __getattribute__(self, name: str) -> Any:
        if name in _INPUTS:
            self.inputs += 1
        return object.__getattribute__(self, name)


@pytest.mark.slow
@settings(max_examples=100)
@given(setting=any_settings(limits=["default", "small"]), operations=sequences(_FRAMES, TCP_OPERATIONS))
def test_an_input_repeats_few_segments(setting: Setting, operations: list[Operation]) -> None:
    repeated = 0

    def listen(frame: bytes) -> None:
        nonlocal repeated
        read = read_frame(frame, vnet=world.config.link.vnet_header)
        if read.ethertype == ARP or (ip := read_ip(read)).protocol != TCP:
            return
        for segment in read_segments(ip, read.gso_size):
            guest = Endpoint(segment.destination, segment.destination_port)
            known = world.conversations.get((guest, Endpoint(segment.source, segment.source_port)))
            if known is not None and segment.payload:
                repeated += (segment.sequence - known.expected) % (1 << 32) >= 1 << 31

    world = new_world(setting, listen=listen, network=Counted)
    for one in operations:
        network: Any = world.network
        network.inputs = repeated = 0
        do(world, [one])
        assert repeated <= _MOST_REPEATED * (network.inputs + 1), f"{repeated} repeated for {network.inputs}: {one}"


def test_a_program_in_a_child_is_read_as_here() -> None:
    assert decode(encode(Setting(), [])) == (Setting(), [])
