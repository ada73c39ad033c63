"""A damaged recording gives one clear error, and everything before it. A file of a stranger runs nothing."""

from __future__ import annotations

import pickle
import tracemalloc
from binascii import crc32
from collections import deque
from contextlib import suppress
from random import Random
from struct import pack, unpack_from
from typing import Any, Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sansnet_core import Network, Reason, SocketId, __version__, addresses, snapshot
from sansnet_core.proto.udp.flow import ForwardedPort
from sansnet_core.proxy.socks5 import associate_request
from sansnet_core.recording import Capture, RecordingError, Replay, conversation
from sansnet_core.recording.calls import Call
from sansnet_core.recording.format import Beginning, Writer
from sansnet_core.resolver.exchange import Exchange
from sansnet_core.resolver.lookups import Lookups
from sansnet_core.snapshot import TooLarge, load, save
from sansnet_core.testing import SECRET, make_config
from sansnet_core.timers import Timers
from sansnet_core.variant import COMPILED, VARIANT
from tests.core.recording.sessions import begun

MAGIC: Final = b"sansnet recording 1\n"


def recorded() -> bytes:
    """A recording of several blocks."""
    session = begun()
    for _ in range(5):
        session.connections[0].send(bytes(5000))
        session.settle()
        session.recorded.flush_recording()
    session.recorded.record(None)
    return b"".join(session.recording)


WHOLE: Final = recorded()


def replayed(data: bytes) -> tuple[int, RecordingError | None]:
    """The number of inputs, and the error behind them."""
    try:
        replay = Replay(data)
    except RecordingError as error:
        return 0, error
    try:
        replay.run()
    except RecordingError as error:
        return replay.number, error
    return replay.number, None


def blocks() -> list[int]:
    """Where each block begins, and the end."""
    places, at = [], len(MAGIC)
    while at < len(WHOLE):
        places.append(at)
        at += 8 + unpack_from("<I", WHOLE, at)[0]
    return [*places, at]


def test_a_cut_gives_all_blocks_before_it() -> None:
    whole, error = replayed(WHOLE)
    assert error is None
    counts = [replayed(WHOLE[:place])[0] for place in blocks()]
    assert counts == sorted(set(counts)) or counts[0] == counts[1] == 0
    assert counts[-1] == whole
    random = Random(1)
    for cut in {*range(30), *random.sample(range(len(WHOLE)), 100)}:
        number, error = replayed(WHOLE[:cut])
        complete = [place for place in blocks() if place <= cut]
        assert number == (counts[len(complete) - 1] if complete else 0)
        if cut in blocks()[1:]:
            assert error is None
        else:
            assert error is not None
            assert any(text in str(error) for text in ("cut off", "no recording", "format", "empty"))
            assert error.position == (complete[-1] if len(complete) > 1 else error.position)


def test_a_changed_byte_is_found_and_what_is_before_it_is_used() -> None:
    random = Random(2)
    places = blocks()
    counts = [replayed(WHOLE[:place])[0] for place in places]
    for at in random.sample(range(len(WHOLE)), 150):
        damaged = bytearray(WHOLE)
        damaged[at] ^= 1 << random.randrange(8)
        number, error = replayed(bytes(damaged))
        assert error is not None, at
        before = [place for place in places if place <= at]
        assert number == (counts[len(before) - 1] if before else 0)


def test_other_files_are_told_apart() -> None:
    for data, text in (
        (b"", "the file is empty; a recording begins when a guest comes"),
        (b"\xd4\xc3\xb2\xa1" + bytes(20), "no recording of sansnet"),
        (b"sansnet recording 2\n" + WHOLE[20:], "has format 2, and this version of sansnet reads format 1"),
        (MAGIC, "no beginning"),
    ):
        number, error = replayed(data)
        assert number == 0
        assert error is not None
        assert text in str(error)


@settings(max_examples=300)
@given(body=st.binary(max_size=200), head=st.booleans())
@example(body=b"\x60" + b"\x07\xff\xff\xff\xff\x0f", head=False)
@example(body=b"\x02" + b"\x07\x01" * 100, head=True)
def test_any_block_with_a_right_checksum_gives_an_error_or_is_replayed(body: bytes, head: bool) -> None:
    """Differences aside: what strangers write may say anything about outputs."""
    start = WHOLE[: blocks()[1]] if head else MAGIC
    data = start + pack("<II", len(body), crc32(body)) + body
    try:
        replay = Replay(data, stop_at_difference=False)
        for step in replay:
            str(step)
    except RecordingError as error:
        position = error.position
    else:
        position = 0
    assert 0 <= position <= len(data)


def test_a_block_that_is_larger_than_any_is_not_read() -> None:
    _, error = replayed(MAGIC + pack("<II", 0xFFFFFFFF, 0) + bytes(100))
    assert error is not None
    assert "damaged" in str(error)


def test_a_recording_has_one_beginning() -> None:
    number, error = replayed(WHOLE + WHOLE[len(MAGIC) : blocks()[1]])
    assert number == replayed(WHOLE)[0]
    assert str(error).startswith("the recording has two beginnings")


def test_a_beginning_is_that_of_a_network_that_there_can_be() -> None:
    with pytest.raises(RecordingError, match="the beginning of the recording is wrong: secret: 1 bytes are too few"):
        Replay(changed(secret=b"s"))


def test_a_state_behind_a_beginning_without_one_is_left_out() -> None:
    parts: list[bytes] = []
    writer = Writer(parts.append, Beginning("1", make_config(), bytes(16), 1.0, 0.0, None))
    writer.checkpoint(b"", make_config())
    writer.call((Call.HANDLE_DEADLINE, 2.0))
    writer.flush()
    replay = Replay(b"".join(parts))
    assert [step.method for step in replay] == ["handle_deadline"]
    assert not replay.can_replay


def test_a_call_that_cannot_be_written_leaves_nothing_of_itself() -> None:
    class Shy:
        def __repr__(self) -> str:
            raise ZeroDivisionError

    parts: list[bytes] = []
    writer = Writer(parts.append, Beginning("1", make_config(), bytes(16), 1.0, 0.0, b""))
    with pytest.raises(ZeroDivisionError):
        writer.call((Call.STREAM_RECEIVED, 2.0, 1, Shy()))
    writer.call((Call.HANDLE_DEADLINE, 3.0))
    writer.flush()
    assert [(step.method, step.time) for step in Replay(b"".join(parts))] == [("handle_deadline", 2.0)]


# states


class Evil:
    """Calls something when it is loaded."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.made = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.made

    def __call__(self) -> None:
        """`pickle` saves a call of callable objects only."""


def beginning_with(state: bytes) -> bytes:
    parts: list[bytes] = []
    config = make_config()
    Writer(parts.append, Beginning("1", config, bytes(16), 1.0, 0.0, state)).flush()
    return b"".join(parts)


@pytest.mark.parametrize(
    "evil",
    [
        Evil(eval, "1"),
        Evil(exec, "import os"),
        Evil(__import__, "os"),
        Evil(getattr, Network, "take_frames"),
        Evil(getattr, "text", "upper"),
        Evil(getattr, deque(), "__class__"),
        Evil(snapshot._restore, Network, b""),
        Evil(pickle.loads, pickle.dumps(1)),
        Evil(Random, 1),
    ],
    ids=range(9),
)
def test_a_state_finds_only_what_networks_are_made_of(evil: Evil) -> None:
    for state in (pickle.dumps({"_now": evil}), pickle.dumps(evil), pickle.dumps([evil])):
        with pytest.raises(RecordingError, match="cannot be replayed"):
            Replay(beginning_with(state))


def test_a_state_cannot_change_classes() -> None:
    """BUILD with a class on the stack sets its attributes."""
    expire = Timers.expire
    with pytest.raises(ValueError, match="no network has"):
        load(b"\x80\x04csansnet_core.timers\nTimers\n(N}(\x8c\x06expire\x94K\x01utb.", object())
    assert Timers.expire is expire


@pytest.mark.parametrize("cls", [Exchange, Lookups], ids=["changed attributes", "new attributes"])
def test_a_class_that_a_method_has_changed_is_as_before(cls: type) -> None:
    """A timer sets attributes of its owner, for which a state can name a class."""
    before = dict(vars(cls))
    state = pickle.dumps({"_now": Evil(Evil(getattr, Timers(), "_push"), cls, 1.0)})
    with pytest.raises(ValueError, match="something that no network has"):
        load(state, object())
    assert dict(vars(cls)) == before


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(b"\x80\x05}r\xff\xff\xff\x01.", id="the number of a remembered object"),
        pytest.param(b"\x80\x05\x8e" + pack("<Q", 1 << 26) + b"x.", id="the size of bytes"),
        pytest.param(pickle.dumps({"a": Evil(bytearray, 1 << 26)}, 4), id="a size of a container"),
        pytest.param(pickle.dumps({"a": Evil(associate_request, 1 << 26)}), id="an argument of a function"),
        pytest.param(
            pickle.dumps({"a": Evil(Evil(getattr, ForwardedPort(SocketId(1), None, 1), "target"), 1 << 26)}),
            id="an argument of a method",
        ),
        pytest.param(
            b"\x80\x05]\x94(K\0K\0e0" + b"\x8c\x08builtins\x8c\x07getattr\x93h\0\x8c\x06extend\x86R\x940"
            + b"h\1h\0\x85R0" * 24 + b"}.",
            id="a list that doubles itself",
        ),
    ],
)  # fmt: skip
def test_a_few_bytes_of_a_state_take_no_more_memory(state: bytes) -> None:
    tracemalloc.start()
    try:
        with suppress(ValueError):
            load(state, object())
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_a_state_is_saved_up_to_a_size() -> None:
    network = begun().recorded
    state = network._save(None)
    assert network._save(len(state)) == state
    with pytest.raises(TooLarge):
        network._save(len(state) - 1)
    with pytest.raises(TooLarge):
        save(object(), bytes(10_000_000), limit=1000)


def test_a_state_with_other_attributes_is_that_of_another_version() -> None:
    with pytest.raises(RecordingError, match="the saved state is that of another version of sansnet_core"):
        Replay(beginning_with(pickle.dumps({"_now": 1.0})))


def test_a_state_that_is_no_pickle() -> None:
    for state in (b"x", b"\x80\x05.", pickle.dumps(5)):
        with pytest.raises(RecordingError):
            Replay(beginning_with(state))


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        (b"\x80\x05K\x01Q.", "a name is missing"),
        (b"\x80\x04csansnet_core.network\nNetworkConfig\n.", "no network has a sansnet_core.network.NetworkConfig"),
        (b"\x80\x04csansnet_core.timers\nNothing\n.", "no network has a sansnet_core.timers.Nothing"),
    ],
    ids=("number for a name", "class of another module", "what does not exist"),
)
def test_what_a_state_refers_to_is_named_and_exists(state: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        load(state, object())


NESTED: Final = b"N\x85\x94" + b"".join(b"0h%ch%c\x86\x94" % (n, n) for n in range(60))
"""A tuple that has the same tuple twice, and so on."""


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(b"\x80\x05}" + NESTED + b"Ns.", id="key"),
        pytest.param(b"\x80\x05\x8f(" + NESTED + b"\x90.", id="set"),
        pytest.param(b"\x80\x05" + NESTED + b"Q.", id="name"),
        pytest.param(
            b"\x80\x05\x8c\x0bcollections\x8c\x05deque\x93\x96" + pack("<Q", 1 << 26) + b"\x85R.", id="zeros"
        ),
    ],
)  # fmt: skip
def test_a_few_bytes_of_a_state_take_no_more_time(state: bytes) -> None:
    """A tuple of tuples of tuples in which each is there twice has a hash, and a text, that takes for ever."""
    with pytest.raises(ValueError, match="saved state"):
        load(state, object())


@pytest.mark.parametrize(
    "state",
    [
        b"\x80\x05\x8c\x16sansnet_core.addresses\x8c\x0aformat_any\x93N}\x8c\x0c__defaults__K\1\x85s\x86b.",
        b"\x80\x05\x8c\x16sansnet_core.addresses\x8c\x0aformat_any\x93}\x8c\x04nameK\1sb.",
        pickle.dumps(Reason.FAILED)[:-1] + b"}\x8c\x06_name_K\1sb.",
    ],
    ids=("defaults", "attribute", "enumeration"),
)
def test_a_state_cannot_change_functions_or_enumerations(state: bytes) -> None:
    before = addresses.format_any.__defaults__, dict(vars(addresses.format_any)), Reason.FAILED.name
    with pytest.raises(ValueError, match="no network has"):
        load(state, object())
    assert before == (addresses.format_any.__defaults__, dict(vars(addresses.format_any)), Reason.FAILED.name)


# what is shown of a recording


def changed(*, entries: bytes = b"", **fields: Any) -> bytes:
    """A recording with another beginning, and a block of entries."""
    pieces: list[bytes] = []
    beginning = Beginning("1", make_config(), bytes(16), 1.0, 0.0, b"")
    Writer(pieces.append, beginning._replace(**fields)).flush()
    return b"".join((*pieces, pack("<II", len(entries), crc32(entries)), entries))


UNKNOWN: Final = b"\x0e\x04\x1b[2J"
"""A value that was none, and is a command of terminals."""


@pytest.mark.parametrize(
    "data",
    [
        MAGIC[:-2] + b"\x1b[2J\n",
        changed(version="\x1b[2J"),
        changed(now=float("nan")),
        changed(epoch=1e300),
        changed(now=1 << 2000),
        changed(entries=b"\x02\x07\x01" + UNKNOWN),
        changed(entries=b"\x61" + UNKNOWN + b"\x02\x07\x01\x05\x01x"),
        changed(entries=b"\x61\x04" + pack("<d", float("nan")) + b"\x02\x07\x01\x05\x01x"),
        changed(entries=b"\x61\x00\x02\x07\x01\x05\x01x"),
        changed(entries=b"\x15" + b"\x0a\x06\x04\x1b[2J\x06\x01x"),
        changed(entries=b"\x41\x07\x03\x22\x06\x04\x1b[2J\x06\x04\x1b[2J"),
    ],
    ids=range(11),
)
def test_whatever_a_recording_says_is_shown_without_commands_to_the_terminal(data: bytes) -> None:
    shown = []
    try:
        replay = Replay(data, stop_at_difference=False)
        shown.append(replay.version)
        capture = Capture(replay)
        for step in replay.steps(at=1e9):
            shown += [*conversation(step), str(step), str(step.difference)]
            capture.packets(step)
    except RecordingError as error:
        shown.append(str(error))
    assert shown
    assert all(line.isprintable() for text in shown for line in text.split("\n"))


def test_each_block_is_written_at_once() -> None:
    """So a file on a full disk ends with a whole block."""
    pieces: list[bytes] = []
    network = begun().recorded
    network.record(pieces.append)
    for number in range(3):
        network.receive_frames([bytes(60)], 1e6 + number)
        network.flush_recording()
        assert replayed(b"".join(pieces))[1] is None
    assert len(pieces) == 5
    network.record(None)


def test_outputs_of_a_damaged_state_that_are_none_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Network, "take_frames", lambda self: [(b"head", 5)])
    number, error = replayed(WHOLE)
    assert number > 0
    assert "gives no outputs" in str(error)


OTHER: Final = "pure Python" if COMPILED else "compiled"


def with_state(version: str) -> Replay:
    """A recording that begins with a saved state."""
    session = begun()
    context = session.recorded._context
    return Replay(
        changed(
            version=version, config=context.config, secret=SECRET, now=context.now, state=session.recorded._save(None)
        )
    )


def test_a_state_of_the_other_variant_is_refused() -> None:
    with pytest.raises(
        RecordingError, match=rf"has a saved state of the variant {OTHER}, which this one \({VARIANT}\)"
    ):
        with_state(f"1 ({OTHER})")


@pytest.mark.parametrize("version", ["1", f"1 ({VARIANT})"])
def test_a_state_of_this_variant_or_of_an_unnamed_one_is_loaded(version: str) -> None:
    assert with_state(version).run() == 0


def test_a_recording_without_a_state_goes_to_the_other_variant() -> None:
    replay = Replay(changed(version=f"1 ({OTHER})"))
    assert (replay.run(), replay.version, replay.variant) == (0, "1", OTHER)


def test_a_recording_names_its_variant() -> None:
    replay = Replay(WHOLE)
    assert (replay.version, replay.variant) == (__version__, VARIANT)
