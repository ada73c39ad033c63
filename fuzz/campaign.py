"""`fuzz/run`: fuzzes targets for some time on all processors, and files what it finds.

Each process fuzzes one target for a part of the time. The targets take turns in random order, and the time that is left
is shared among those that wait for their turn, so that each gets one even if others take longer than they should. What
has reached new code is kept in `.cache/fuzz/corpus`, for the next time.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import re
import resource
import shutil
import signal
import sys
import time
from base64 import b64encode
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import IO, Final

from fuzz.execution import ROOT, attempt
from fuzz.registry import Target, all_targets, find
from fuzz.stored import REGRESSIONS, corpus_of, distil, inputs_of, store

__all__ = ["main"]

CACHE: Final = ROOT / ".cache" / "fuzz"

_LONGEST_TURN: Final = 300.0
"""Seconds that one target is fuzzed at a time, so that all have had a turn when a long campaign is interrupted."""
_PROGRESS: Final = 60.0
"""Seconds between lines about the progress."""
_SHOWN: Final = 3000
"""Bytes of the largest input that is printed; the machine of a continuous integration may be gone afterwards."""
_MEMORY: Final = 2048
"""MiB that a process may use."""
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600}
_DONE: Final = re.compile(r"^Done (\d+) runs", re.MULTILINE)
_PULSE: Final = re.compile(r"^#(\d+)\s+\S+\s+cov: (\d+) ft: (\d+) corp: (\d+)", re.MULTILINE)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time; give seconds, or a number with s, m or h")
    return float(match[1]) * _UNITS[match[2]]


@dataclass
class _Turn:
    """One process that fuzzes one target."""

    target: Target
    pid: int
    log: Path
    artifacts: Path
    started: float = field(default_factory=time.monotonic)


@dataclass
class _Sum:
    """What was done with one target."""

    executions: int = 0
    seconds: float = 0.0
    processor: float = 0.0
    edges: int = 0
    corpus: int = 0


class Campaign:
    """Fuzzes targets in turn.

    Args:
        targets: the targets.
        jobs: the number of processes at a time.
        seed: of all random choices.
        regressions: folder for what fails, with a folder for each target.
    """

    def __init__(self, targets: Sequence[Target], jobs: int, seed: int, regressions: Path) -> None:
        self._targets = targets
        self._jobs = jobs
        self._random = random.Random(seed)
        self._regressions = regressions
        self._turns: list[_Turn] = []
        self._started = 0
        self._processor = _processor_time()
        self.sums = {target.name: _Sum() for target in targets}
        self.filed: list[Path] = []
        self.broken: list[str] = []
        """Targets whose process failed, and its last words."""

    def run(self, seconds: float) -> None:
        """Fuzz for this time, or until it is interrupted."""
        begin = said = time.monotonic()
        end = begin + seconds
        count = len(self._targets)
        rounds = int(-(-seconds * self._jobs / count // _LONGEST_TURN))
        left = count * rounds
        waiting: list[Target] = []
        try:
            while (now := time.monotonic()) < end - 0.5 or self._turns:
                while len(self._turns) < self._jobs and now < end - 0.5 and not self.broken:
                    waiting = waiting or self._random.sample(self._targets, count)
                    self._start(waiting.pop(0), min((end - now) * self._jobs / max(left, 1), end - now))
                    left -= 1
                time.sleep(0.1)
                self._collect()
                if now >= said + _PROGRESS:
                    said = now
                    done = sum(each.executions for each in self.sums.values())
                    print(
                        f"fuzz/run: {now - begin:.0f} s, {done} executions in the turns that have ended, "
                        f"{len(self.filed)} filed",
                        flush=True,
                    )
                if self.broken and not self._turns:
                    break
        finally:
            for running in self._turns:
                os.kill(running.pid, signal.SIGKILL)
                _, status = os.waitpid(running.pid, 0)
                self._finish(running, status)

    def _start(self, target: Target, seconds: float) -> None:
        from fuzz.worker import fork  # atheris is not there for every version of Python

        self._started += 1
        corpus, state = CACHE / "corpus" / target.name, CACHE / "state" / f"{os.getpid()}-{self._started}"
        shutil.rmtree(state, ignore_errors=True)
        for folder in (corpus, state / "seeds", state / "artifacts"):
            folder.mkdir(parents=True, exist_ok=True)
        for _, data in inputs_of(target, self._regressions):
            (state / "seeds" / sha256(data).hexdigest()[:16]).write_bytes(data)
        (state / "words").write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
        arguments = [
            f"-max_total_time={max(1, int(seconds))}",  # 0 would be none
            f"-seed={self._random.randrange(1, 1 << 31)}",
            f"-max_len={target.max_size}",
            f"-artifact_prefix={state / 'artifacts'}/",
            *([f"-dict={state / 'words'}"] if target.words else []),  # libFuzzer refuses an empty one
            f"-rss_limit_mb={_MEMORY}",
            f"-timeout={round(target.seconds * 60)}",
            "-report_slow_units=3600",
            str(corpus),
            str(state / "seeds"),
        ]
        reports = CACHE / "reports" / target.name
        pid = fork(target, self._regressions / target.name, reports, state / "log", arguments)
        self._turns.append(_Turn(target, pid, state / "log", state / "artifacts"))

    def _collect(self) -> None:
        for turn in list(self._turns):
            pid, status = os.waitpid(turn.pid, os.WNOHANG)
            if pid:
                self._turns.remove(turn)
                self._finish(turn, status)

    def _finish(self, turn: _Turn, status: int) -> None:
        text = turn.log.read_text(errors="replace")
        total = self.sums[turn.target.name]
        total.seconds += time.monotonic() - turn.started
        before, self._processor = self._processor, _processor_time()  # its process is the only one that ended since
        total.processor += self._processor - before
        executions = 0
        for match in _PULSE.finditer(text):
            executions, total.edges, total.corpus = int(match[1]), int(match[2]), int(match[4])
        done = _DONE.search(text)
        total.executions += int(done[1]) if done else executions
        filed = self._file(turn, text)
        shutil.rmtree(turn.log.parent)
        if os.waitstatus_to_exitcode(status) not in (0, -signal.SIGKILL) and not filed:
            self.broken.append(f"{turn.target.name}: {text.strip()[-2000:]}")

    def _file(self, turn: _Turn, text: str) -> int:
        """Report what the process filed; file the inputs with which it died, which it could not do itself.

        Returns:
            How many there were, with those that another process had filed before.
        """
        count = 0
        for line in text.splitlines():
            if line.startswith("filed "):
                self._report(Path(line.removeprefix("filed ")))
                count += 1
        for artifact in turn.artifacts.iterdir():
            place = self._regressions / turn.target.name / artifact.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(artifact, place)
            self._report(place)
            count += 1
        return count

    def _report(self, place: Path) -> None:
        if place in self.filed:  # several processes may have found it
            return
        self.filed.append(place)
        print(f"fuzz/run: filed {_shown(place)}", flush=True)
        if (size := place.stat().st_size) <= _SHOWN:
            print(f"    its {size} bytes in base64: {b64encode(place.read_bytes()).decode()}", flush=True)
        report = CACHE / "reports" / place.parent.name / f"{place.name}.txt"
        if report.exists():
            print("    " + "\n    ".join(report.read_text().splitlines()[-6:]), flush=True)


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def _shown(place: Path) -> str:
    return str(place.relative_to(ROOT) if place.is_relative_to(ROOT) else place)


def _processor_time() -> float:
    """Seconds of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _table(sums: dict[str, _Sum]) -> Iterable[str]:
    """The work; a busy machine does not change the executions per second of a processor."""
    heads = f"{'executions':>11} {'seconds':>8} {'processor':>9} {'per second':>11}"
    yield f"{'target':24} {heads} {'edges':>6} {'corpus':>7}"
    for name, each in sums.items():
        rate = each.executions / each.processor if each.processor else 0.0
        counts = f"{each.executions:11} {each.seconds:8.0f} {each.processor:9.0f} {rate:11.0f}"
        yield f"{name:24} {counts} {each.edges:6} {each.corpus:7}"


def _replay(targets: Sequence[Target], regressions: Path, out: IO[str]) -> int:
    """Run all inputs in the repository once; the number of those that fail."""
    failed = count = 0
    for target in targets:
        for name, data in inputs_of(target, regressions):
            count += 1
            failure = attempt(target, data)
            if failure is not None:
                failed += 1
                print(f"{target.name}: {name}\n{failure.report}", file=out)
    print(f"fuzz/run: {count} inputs of {len(targets)} targets, {failed} failed", file=out)
    return failed


def _merge(targets: Sequence[Target]) -> None:
    """Put what reached new code into the corpus of the repository, and leave out what is not needed for that."""
    for target in targets:
        found = [path.read_bytes() for path in (CACHE / "corpus" / target.name).glob("*")]
        kept = distil(target, [*corpus_of(target), *found])
        store(target, kept)
        print(f"{target.name}: {len(kept)} inputs with {sum(map(len, kept))} bytes", flush=True)


def _positive(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,3}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes; give 1 or more")
    return int(text)


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with a message if an option would have no effect."""
    others = [name for name in ("list", "replay", "merge") if getattr(options, name)]
    if len(others) > 1:
        parser.error(f"--{others[0]} and --{others[1]} exclude each other; give one of them")
    if not others:
        options.time = 600.0 if options.time is None else options.time
        options.jobs = options.jobs or os.cpu_count() or 1
        return
    for name in ("time", "seed", "jobs"):
        if getattr(options, name) is not None:
            parser.error(f"--{name} is for fuzzing, and --{others[0]} does not fuzz; leave one of them out")
    if options.regressions is not None and not options.replay:
        parser.error(f"--{others[0]} reads no regressions; leave out --regressions")


def _instrumented() -> AbstractContextManager[None]:
    if importlib.util.find_spec("atheris") is None:
        remedy = "add it with: sh tests/run --collect-only -q"
        sys.exit(f"fuzz/run: .venv has no atheris, which needs Python 3.11 to 3.13; {remedy}")
    from fuzz.worker import instrumented  # atheris is not there for every version of Python

    return instrumented()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(prog="fuzz/run", description=__doc__, allow_abbrev=False)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="what to fuzz; default: all targets")
    parser.add_argument("--list", action="store_true", help="print the targets")
    parser.add_argument("--replay", action="store_true", help="only run all inputs in the repository once")
    parser.add_argument("--time", type=_seconds, metavar="TIME", help="such as 90, 10m or 2h; default 10m")
    parser.add_argument("--seed", type=int, metavar="N", help="of the random choices; default: a new one")
    parser.add_argument("--jobs", type=_positive, metavar="N", help="processes; default: processors")
    parser.add_argument("--regressions", type=Path, metavar="DIR", help="where to file what fails")
    parser.add_argument("--merge", action="store_true", help="only update fuzz/corpus by what was found before")
    options = parser.parse_args(arguments)
    _check(parser, options)
    fuzzes = not (options.list or options.replay or options.merge)
    regressions: Path = options.regressions or REGRESSIONS
    try:
        with _instrumented() if fuzzes else nullcontext():
            targets = [find(name) for name in options.targets] or list(all_targets().values())
    except LookupError as wrong:
        parser.error(str(wrong))
    if options.list:
        for target in targets:
            print(f"{target.name:20} {(target.run.__doc__ or '').strip().splitlines()[0]}")
        return 0
    if options.replay:
        return 1 if _replay(targets, regressions, sys.stdout) else 0
    if options.merge:
        _merge(targets)
        return 0
    seed = random.SystemRandom().randrange(1 << 31) if options.seed is None else options.seed
    print(
        f"fuzz/run: {len(targets)} targets for {options.time:.0f} s in {options.jobs} processes, --seed {seed}",
        flush=True,
    )
    for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT may be ignored, as in a command behind &
        signal.signal(number, signal.default_int_handler)
    campaign = Campaign(targets, options.jobs, seed, regressions.absolute())
    try:
        campaign.run(options.time)
    except KeyboardInterrupt:
        print("fuzz/run: interrupted", flush=True)
    print("\n".join(_table(campaign.sums)), flush=True)
    if idle := [name for name, each in campaign.sums.items() if not each.executions]:
        print(f"fuzz/run: there was no time for {', '.join(idle)}")
    if blind := [name for name, each in campaign.sums.items() if each.executions and not each.edges]:
        print(
            f"fuzz/run: {', '.join(blind)} reached no code that is watched, so inputs are chosen by chance alone; "
            "see fuzz/README.md, Add a target",
            file=sys.stderr,
        )
    for words in campaign.broken:
        print(f"fuzz/run: the process of {words}", file=sys.stderr)
    return 1 if campaign.filed or campaign.broken else 0


if __name__ == "__main__":
    sys.exit(main())
