"""The targets of coverage-guided fuzzing hold for all that is in the repository, and the command finds faults."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import util
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from fuzz import campaign
from fuzz.campaign import Campaign, _Turn
from fuzz.choices import Choices
from fuzz.execution import ROOT, attempt
from fuzz.registry import Target, all_targets, find
from fuzz.shrinking import shrink
from fuzz.stored import CORPUS, REGRESSIONS, distil, inputs_of
from fuzz.targets import networks
from sansnet_core.testing.operations import Operation, Setting, encode
from sansnet_core.testing.operations.steps import GuestSendsFrame
from tests.fuzz.faulty import divides

needs_atheris = pytest.mark.skipif(find_spec("atheris") is None, reason="there is no atheris for this Python")


@pytest.mark.slow
@pytest.mark.parametrize("name", all_targets())
def test_all_inputs_in_the_repository_hold(name: str) -> None:
    target = find(name)
    for which, data in inputs_of(target):
        failure = attempt(target, data)
        assert failure is None, f"{which}: {data!r}\n{failure.report}"


def test_all_files_belong_to_a_target() -> None:
    files = {path.stem for path in CORPUS.iterdir()} | {path.name for path in REGRESSIONS.iterdir()}
    assert files <= all_targets().keys()


def test_a_failure_is_told_by_its_place() -> None:
    target = find("tests.fuzz.faulty:divides")
    one, other = attempt(target, b"..key\7"), attempt(target, b"##key\7####")
    assert one is not None
    assert one.name == "AssertionError"
    assert one.place.startswith("tests/fuzz/faulty.py:")
    assert one.is_like(other)
    assert attempt(target, b"..key\6") is None


def test_an_input_that_takes_too_long_is_stopped() -> None:
    target = find("tests.fuzz.faulty:spins")
    failure = attempt(target, b"..!")
    assert failure is not None
    assert failure.name == "TooSlow"


def test_an_input_shrinks_to_what_matters() -> None:
    def fails(data: bytes) -> bool:
        try:
            divides(data)
        except AssertionError:
            return True
        return False

    assert shrink(b"##key\7" + bytes(range(200)), fails) == b"key\7"
    assert len(shrink(b"##key\7" + bytes(200), fails, attempts=3)) < 200


def test_choices_end_with_zeros() -> None:
    choices = Choices(b"\1\2\3\4\5")
    assert [choices.number(256), choices.number(300), choices.left] == [1, 0x0203 % 300, 2]
    assert [choices.take(1), choices.rest(), choices.number(10), choices.flag()] == [b"\4", b"\5", 0, False]


def test_the_corpus_keeps_the_smallest_inputs_that_reach_new_code() -> None:
    target = replace(find("ports_to_forward"), seeds=tuple)
    kept = distil(target, [b"\1" + text for text in (b"80", b"8080", b"81", b"80-90", b"80,90", b"[::1]/80", b"80")])
    assert kept == [b"\x0180", b"\x0180,90", b"\x01[::1]/80"]
    assert distil(target, [*kept, b"\x01443"]) == kept


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0, 6.0])
def test_every_target_has_a_turn_although_turns_take_longer(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    now, targets, started = 0.0, list(all_targets().values()), []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    class Planned(Campaign):
        def _start(self, target: Target, seconds: float) -> None:
            started.append(target.name)
            self.ends = now + max(seconds, 1.0) * (factor if len(started) < 5 else 1.0)
            self._turns.append(_Turn(target, 0, Path(), Path()))

        def _collect(self) -> None:
            if now >= self.ends:
                self._turns.clear()

    monkeypatch.setattr(campaign, "time", SimpleNamespace(monotonic=lambda: now, sleep=sleep))
    Planned(targets, 1, 1, REGRESSIONS).run(240.0)
    assert set(started) == all_targets().keys()
    assert now < 250


def test_what_two_processes_find_is_announced_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = tmp_path / "divides" / "AssertionError-1"
    found.parent.mkdir()
    found.write_bytes(b"key")
    log, artifacts = tmp_path / "log", tmp_path / "artifacts"
    artifacts.mkdir()
    log.write_text(f"filed {found}\n")
    made = Campaign([], 1, 1, tmp_path)
    turn = _Turn(find("ports_to_forward"), 0, log, artifacts)
    assert [made._file(turn, log.read_text()) for _ in range(2)] == [1, 1]
    assert made.filed == [found]
    assert capsys.readouterr().out.count("filed") == 1


def test_a_replay_says_what_it_did(capsys: pytest.CaptureFixture[str]) -> None:
    assert campaign.main(["ports_to_forward", "--replay"]) == 0
    assert re.fullmatch(r"fuzz/run: \d+ inputs of 1 targets, 0 failed\n", capsys.readouterr().out)


def test_without_an_environment_the_command_says_how_to_make_it(tmp_path: Path) -> None:
    (tmp_path / "fuzz").mkdir()
    copy = shutil.copy(ROOT / "fuzz" / "run", tmp_path / "fuzz")
    done = subprocess.run(["sh", copy], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "fuzz/run: there is no .venv; make it with: sh tests/run --collect-only -q\n"


def test_an_environment_without_the_tools_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "fuzz").mkdir()
    copy = shutil.copy(ROOT / "fuzz" / "run", tmp_path / "fuzz")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    python.chmod(0o755)
    done = subprocess.run(["sh", copy], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "fuzz/run: .venv lacks what the tests need; add it with: sh tests/run --collect-only -q\n"


def test_without_atheris_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    with pytest.raises(
        SystemExit, match=r"^fuzz/run: \.venv has no atheris, which needs Python .*; add it with: sh tests/run"
    ):
        campaign.main(["ports_to_forward"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--jobs", "0"], "'0' is not a number of processes; give 1 or more"),
        (["--jobs", "-2"], "'-2' is not a number of processes; give 1 or more"),
        (["--replay", "--time", "5"], "--time is for fuzzing, and --replay does not fuzz; leave one of them out"),
        (["--list", "--seed", "0"], "--seed is for fuzzing, and --list does not fuzz; leave one of them out"),
        (["--merge", "--replay"], "--replay and --merge exclude each other; give one of them"),
        (["--merge", "--regressions", "x"], "--merge reads no regressions; leave out --regressions"),
    ],
)
def test_options_without_effect_are_refused(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        campaign.main(["ports_to_forward", *words])
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith(f"{sentence}\n")


def test_a_failing_network_shows_its_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(setting: Setting, operations: list[Operation]) -> None:
        raise AssertionError

    monkeypatch.setattr(networks, "run", fail)
    failure = attempt(find("network"), encode(Setting(link="largest"), [GuestSendsFrame(frame=b"any")]))
    assert failure is not None
    assert "run(Setting(link='largest'," in failure.report
    assert "[GuestSendsFrame(frame=b'any')])" in failure.report


@pytest.mark.slow
@needs_atheris
def test_the_command_finds_and_files_faults(tmp_path: Path) -> None:
    names = [f"tests.fuzz.faulty:{name}" for name in ("divides", "spins", "is_sound")]
    command = [sys.executable, "-m", "fuzz.campaign", *names, "--time", "15", "--jobs", "3", "--seed", "1"]
    done = subprocess.run([*command, "--regressions", tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "--seed 1\n" in done.stdout
    assert "AssertionError: a fault" in done.stdout
    (found,) = (tmp_path / "divides").iterdir()
    assert found.read_bytes() == b"key\7"
    (found,) = (tmp_path / "spins").iterdir()
    assert found.read_bytes() == b"!"
    assert not (tmp_path / "is_sound").exists()
    again = subprocess.run(
        [*command[:3], *names, "--replay", "--regressions", tmp_path], cwd=ROOT, capture_output=True, text=True
    )
    assert again.returncode == 1
    assert again.stdout.count("Traceback") == 1
    assert "0.2 s of processor time" in again.stdout
