"""The command `sansnet replay`."""

from __future__ import annotations

import code
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

from sansnet_cli import __version__
from sansnet_cli.options.records import CommandLineError
from sansnet_cli.replay import command, prompt
from sansnet_cli.replay.command import replay
from sansnet_cli.replay.parser import parse
from sansnet_core import Network
from sansnet_core.recording import Failure, RecordedNetwork, Replay
from sansnet_core.recording.format import MAGIC
from sansnet_core.testing import SECRET, make_config
from sansnet_core.variant import VARIANT
from sansnet_trio.testing import open_simulated_guest

SERVER: Final = "192.0.2.80"


async def greet(stream: trio.abc.HalfCloseableStream) -> None:
    await stream.send_all(b"welcome")
    await stream.send_eof()


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The recording of a guest that reads a greeting, waits, and is refused; a frame of its is dropped."""
    path = tmp_path_factory.mktemp("recording") / "net.rec"

    async def main() -> None:
        async with open_simulated_guest(record=path) as guest:
            await guest.nursery.start(guest.host.serve_tcp, greet, 80)
            for _ in range(3):
                async with await guest.open_tcp_stream(SERVER, 80) as stream:
                    assert await stream.receive_some() == b"welcome"
                await trio.sleep(1)
            guest.link.send([bytes(13)])
            with pytest.raises(ConnectionRefusedError):
                await guest.open_tcp_stream(SERVER, 81)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    return path.read_bytes()


@pytest.fixture
def file(recording: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("net.rec").write_bytes(recording)
    return "net.rec"


@pytest.fixture
def inputs(recording: bytes) -> int:
    """How many inputs it has."""
    return Replay(recording).run()


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """The exit status, stdout and stderr."""
    status = replay(arguments)
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def sansnet(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the command in a process of its own."""
    words = [sys.executable, "-W", "error", "-m", "sansnet_cli", "replay", *arguments]
    return subprocess.run(words, input=stdin, capture_output=True, timeout=60, check=False)


def refusal(*arguments: str) -> str:
    with pytest.raises(CommandLineError) as caught:
        replay(arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change(data: bytes, before: bytes, after: bytes) -> bytes:
    """A recording with other bytes in one place, and right checksums."""
    from binascii import crc32

    from sansnet_core.recording.format import _BLOCK

    line, rest = data.split(b"\n", 1)
    blocks = [line + b"\n"]
    while rest:
        size, _ = _BLOCK.unpack_from(rest)
        block = rest[_BLOCK.size : _BLOCK.size + size].replace(before, after)
        blocks.append(_BLOCK.pack(len(block), crc32(block)) + block)
        rest = rest[_BLOCK.size + size :]
    changed = b"".join(blocks)
    assert changed != data
    return changed


def test_the_same_outputs_are_confirmed(capsys: pytest.CaptureFixture[str], file: str, inputs: int) -> None:
    status, out, err = run(capsys, file)
    assert (status, err) == (0, "")
    assert re.fullmatch(rf"net\.rec: {inputs} inputs over 3\.\d+ s; all outputs are the same\n", out)


def test_it_ends_after_an_input_or_before_one_that_is_later(
    capsys: pytest.CaptureFixture[str], file: str, recording: bytes
) -> None:
    assert run(capsys, file, "--until", "1")[1] == "net.rec: 1 input over 0.000 s; all outputs are the same\n"
    expected = [step.number for step in Replay(recording) if step.time <= 1.5][-1]
    assert run(capsys, file, "--at", "1.5")[1].startswith(f"net.rec: {expected} inputs over ")
    assert run(capsys, file, "--until", "9", "--at", "1.5")[1].startswith("net.rec: 9 inputs over ")


def test_the_conversation_is_a_line_for_each_frame_order_and_fact(
    capsys: pytest.CaptureFixture[str], file: str
) -> None:
    status, out, _ = run(capsys, file, "--show")
    lines = out.splitlines()
    assert status == 0
    assert any(re.search(r"guest  > IP 10\.0\.2\.15\.\d+ > 192\.0\.2\.80\.80: Flags \[S\]", line) for line in lines)
    assert any("order    OpenStream(" in line for line in lines)
    assert any("fact     stream_connected(" in line for line in lines)
    numbers = [int(line.split()[0]) for line in lines[:-1]]
    assert numbers == sorted(numbers)
    assert run(capsys, file, "--show", "--from", "20")[1].splitlines() == [
        line for number, line in zip([*numbers, 1 << 30], lines, strict=True) if number >= 20
    ]


def test_many_lines_are_all_printed(
    capsys: pytest.CaptureFixture[str], file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(capsys, file, "--show")
    monkeypatch.setattr("sansnet_cli.replay.command._LINES", 2)
    assert run(capsys, file, "--show") == whole


def test_a_difference_is_shown_and_ends_it(
    capsys: pytest.CaptureFixture[str], file: str, recording: bytes, inputs: int
) -> None:
    """The recording says that the guest's frames had another greeting."""
    Path(file).write_bytes(change(recording, b"welcome", b"welcomf"))
    status, out, err = run(capsys, file)
    assert status == 1
    assert re.fullmatch(
        r"sansnet: net\.rec: input \d+, .*: frame \d+ of \d+ differs .*: the recording has `IP .*, the replay .*\n",
        err,
    )
    number = int(re.findall(r"input (\d+)", err)[0])
    assert out.endswith(f"; input {number} has other outputs than the recording\n")
    assert out.startswith(f"net.rec: {number} inputs over ")
    assert number < inputs


def test_it_goes_on_after_a_difference_if_asked(
    capsys: pytest.CaptureFixture[str], file: str, recording: bytes, inputs: int
) -> None:
    Path(file).write_bytes(change(recording, b"welcome", b"welcomf"))
    status, out, err = run(capsys, file, "--keep-going", "--show")
    assert status == 1
    count = len(err.splitlines())
    assert count >= 1
    assert re.search(rf"net\.rec: {inputs} inputs over .* s; {count} of them have other outputs\n$", out)
    assert out.count(" differs  ") == count


def test_a_difference_of_versions_is_named(capsys: pytest.CaptureFixture[str], file: str, recording: bytes) -> None:
    other = change(recording, b"welcome", b"welcomf")
    version = f"{__version__} ({VARIANT})".encode()
    Path(file).write_bytes(change(other, b"\x06" + bytes([len(version)]) + version, b"\x06\x039.9"))
    err = run(capsys, file)[2]
    assert err.startswith(f"sansnet: net.rec: sansnet 9.9 recorded it, and this is {__version__}\n")
    assert err.count("recorded it") == 1


def test_a_beginning_behind_the_end_is_told(capsys: pytest.CaptureFixture[str], file: str) -> None:
    status, out, _ = run(capsys, file, "--show", "--from", "99999")
    assert status == 0
    assert out.endswith("; --from 99999 is behind the last of them, so nothing is shown\n")


@pytest.mark.parametrize("size", [-1, -100, 0.5, 0.2])
def test_a_recording_that_is_cut_off_is_used_up_to_there(
    capsys: pytest.CaptureFixture[str], file: str, recording: bytes, inputs: int, size: float
) -> None:
    end = len(recording) + int(size) if size < 0 else int(len(recording) * size)
    Path(file).write_bytes(recording[:end])
    status, out, err = run(capsys, file)
    assert status == 1
    assert re.fullmatch(
        r"sansnet: net\.rec: the recording is cut off: its last block, at byte \d+, is not complete; what follows is "
        r"about the part before it\n",
        err,
    )
    found = re.fullmatch(r"net\.rec: (\d+) inputs over .* s; all outputs are the same\n", out)
    assert found
    assert int(found[1]) < inputs


def test_damage_is_named(capsys: pytest.CaptureFixture[str], file: str, recording: bytes) -> None:
    damaged = bytearray(recording)
    damaged[-20] ^= 1
    Path(file).write_bytes(damaged)
    status, _, err = run(capsys, file)
    assert status == 1
    assert re.match(r"sansnet: net\.rec: the recording is damaged: the block at byte \d+ has another checksum; ", err)


@pytest.mark.parametrize("data", [b"", b"x", b"\n", b"GIF89a" * 1000, MAGIC, MAGIC + b"999\n", MAGIC + b"1\n"])
def test_another_file_is_refused_in_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: bytes
) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    status, out, err = run(capsys, str(path))
    assert (status, out) == (1, "")
    assert err.startswith(f"sansnet: {path}: ")
    assert err.count("\n") == 1


def test_a_capture_has_comments(capsys: pytest.CaptureFixture[str], file: str) -> None:
    status, out, _ = run(capsys, file, "--pcapng", "net.pcapng")
    data = Path("net.pcapng").read_bytes()
    assert status == 0
    assert out.endswith("all outputs are the same\n")
    assert stat.S_IMODE(Path("net.pcapng").stat().st_mode) == 0o600
    assert data.startswith(bytes.fromhex("0a0d0d0a"))
    assert b"dropped: ETHERNET_TRUNCATED: " in data
    assert b"order: OpenStream(" in data


def test_a_capture_can_go_to_stdout(file: str) -> None:
    sansnet(file, "--pcapng", "net.pcapng")
    done = sansnet(file, "--pcapng", "-")
    assert done.stdout == Path("net.pcapng").read_bytes()
    assert done.stderr.endswith(b"all outputs are the same\n")


def test_a_recording_is_not_overwritten_by_its_capture(
    capsys: pytest.CaptureFixture[str], file: str, recording: bytes
) -> None:
    Path("hard").hardlink_to(file)
    Path("symbolic").symlink_to(file)
    for path in (file, f"./{file}", "hard", "symbolic"):
        assert refusal(file, "--pcapng", path) == (f"--pcapng would overwrite the recording {file}; give another file")
    assert Path(file).read_bytes() == recording


def test_a_file_that_is_no_recording_costs_no_capture(capsys: pytest.CaptureFixture[str], file: str) -> None:
    capture = Path("net.pcapng")
    capture.write_bytes(b"an older one")
    Path("other").write_bytes(b"GIF89a")
    assert run(capsys, "other", "--pcapng", str(capture))[0] == 1
    assert capture.read_bytes() == b"an older one"


def test_a_recording_can_come_from_stdin(recording: bytes) -> None:
    done = sansnet("-", stdin=recording)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"-: ")


def test_a_closed_pipe_is_no_error(file: str) -> None:
    line = f"{sys.executable} -m sansnet_cli replay {file} --show | head -1"
    done = subprocess.run(["sh", "-c", line], capture_output=True, timeout=60, check=True)
    assert done.stdout.count(b"\n") == 1
    assert done.stderr == b""


def test_a_full_disk_is_an_error(file: str) -> None:
    done = sansnet(file, "--pcapng", "/dev/full")
    assert done.returncode == 1
    assert done.stderr == b"sansnet: --pcapng /dev/full: No space left on device; give another file\n"


def test_the_prompt_has_the_network_at_that_point(file: str) -> None:
    program = b"print(len(network.flows()), replay.number, last.number)\nstep(2)\nprint(replay.number)\n"
    done = sansnet(file, "--until", "12", "--python", stdin=program)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert b"The replay is at input 12, " in done.stderr
    assert any(line.endswith("1 12 12") for line in lines)
    assert any(line.endswith("14") for line in lines)


def test_the_prompt_goes_on_to_the_end(file: str, inputs: int) -> None:
    done = sansnet(file, "--until", "3", "--python", stdin=b"x = step(10000)\nprint('at', replay.number)\n")
    assert f"at {inputs}" in done.stdout.decode()
    assert "the recording ends here" in done.stdout.decode()


def test_wrong_arguments_are_refused(file: str, tmp_path: Path) -> None:
    assert refusal("missing") == "the recording missing cannot be read (No such file or directory); give another one"
    assert refusal(str(tmp_path)).endswith("cannot be read (Is a directory); give another one")
    assert "is not the number of an input" in refusal(file, "--until", "0")
    assert "is not a number of seconds" in refusal(file, "--at", "nan")
    assert refusal(file, "--from", "3") == "--from is for --show and --pcapng; give one of them, or leave it out"
    assert refusal(file, "--pcapng", "-", "--show") == (
        "--pcapng - takes stdout, which --show and --python need; give --pcapng a file"
    )
    assert refusal("-", "--python") == (
        "--python reads stdin, so the recording cannot come from there; give it as a file"
    )
    assert refusal(file, "--pcapng", "missing/file") == (
        "the file missing/file of --pcapng cannot be written (No such file or directory); give another one"
    )
    assert refusal(file, "--show", "--from", "3", "--until", "2") == (
        "--from 3 is after --until 2; give it a smaller number"
    )
    assert refusal("") == "FILE names no file; give a path"


def test_options_become_a_record() -> None:
    options = parse(["net.rec", "--until", "3", "--at", "2.5", "--from", "2", "--show", "--keep-going"])
    assert (options.file, options.until, options.at, options.begin) == ("net.rec", 3, 2.5, 2)
    assert (options.show, options.python, options.keep_going, options.pcapng) == (True, False, True, None)


def test_nothing_of_trio_is_loaded() -> None:
    program = (
        "import sys, sansnet_cli.replay.command, sansnet_cli.replay.prompt; "
        "print(*(name for name in sys.modules if name in ('trio', 'pyroute2')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


@pytest.mark.parametrize("options", [["--show"], ["--pcapng", "out.pcapng"]])
def test_a_network_from_a_damaged_state_ends_with_a_sentence(
    file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    """Its outputs may be anything, and its flows cannot be listed."""

    def fail(*_: object) -> None:
        raise AttributeError("there is no \x1b[2J")

    monkeypatch.setattr("sansnet_cli.replay.command.conversation", fail)
    monkeypatch.setattr("sansnet_core.recording.capture.Capture.packets", fail)
    status, _, err = run(capsys, file, *options)
    assert status == 1
    assert "the state in the recording is damaged: input 1, " in err
    assert "\x1b" not in err


@pytest.mark.interpreted
def test_an_input_that_computes_for_ever_is_an_error(
    file: str, inputs: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right, count = Replay._call, 0

    def call(*arguments: Any) -> tuple[Any, ...]:
        nonlocal count
        count += 1
        while count == inputs - 1:
            pass
        return right(*arguments)

    monkeypatch.setattr(command, "_LONGEST", 0.3)
    monkeypatch.setattr(Replay, "_call", call)
    before = signal.getsignal(signal.SIGVTALRM)
    status, shown, errors = run(capsys, file)
    assert status == 1
    assert errors == (
        "sansnet: net.rec: the state in the recording is damaged: an input takes more than 0.3 s of processor time; "
        "what follows is about the part before it\n"
    )
    assert shown.startswith(f"net.rec: {inputs - 2} inputs over")
    assert signal.getsignal(signal.SIGVTALRM) is before


@pytest.mark.interpreted
def test_a_beginning_that_computes_for_ever_is_an_error(
    file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def begin(*arguments: object) -> None:
        while True:
            pass

    monkeypatch.setattr(command, "_LONGEST", 0.3)
    monkeypatch.setattr(Replay, "_begin", begin)
    status, _, errors = run(capsys, file)
    assert (status, errors.count("\n")) == (1, 1)
    assert "more than 0.3 s of processor time" in errors


@pytest.mark.parametrize("words", [("--until", "99999"), ("--at", "99999")])
def test_an_end_behind_the_end_is_told(capsys: pytest.CaptureFixture[str], file: str, words: tuple[str, str]) -> None:
    status, out, _ = run(capsys, file, *words)
    assert status == 0
    assert out.endswith(f"; {' '.join(words)} is behind the last of them\n")
    assert "behind" not in run(capsys, file, words[0], "1")[1]


@pytest.mark.parametrize("count", [-1, 0, "x", 1.5, True])
def test_the_prompt_says_how_to_step(capsys: pytest.CaptureFixture[str], recording: bytes, count: Any) -> None:
    names: dict[str, Any] = {}
    made = Replay(recording)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code, "interact", lambda banner, local, exitmsg: names.update(local))
        prompt.interact(made, None)
    assert names["step"](count) is None
    assert capsys.readouterr().out.startswith(f"step({count!r}): give the number of inputs to replay, 1 or more")
    assert made.number == 0


def test_a_recording_of_a_failure_ends_with_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(network: Network, now: float) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(Network, "guest_attached", fail)
    failures: list[Failure] = []
    network = RecordedNetwork(make_config(), now=0.0, secret=SECRET, failed=failures.append)
    with pytest.raises(RuntimeError):
        network.guest_attached(1.0)
    (tmp_path / "failure.rec").write_bytes(failures[0].recording)
    status, out, _ = run(capsys, str(tmp_path / "failure.rec"))
    assert status == 0
    assert out.endswith("all outputs are the same; the last one raises RuntimeError: a mistake\n")
