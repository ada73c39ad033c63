"""`sansnet replay`: run a recording again, compare, and show what happened."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, BinaryIO, Final

from sansnet_cli import __version__
from sansnet_cli.options.records import CommandLineError
from sansnet_cli.output.stderr import say
from sansnet_cli.output.stdout import Unwritable, put
from sansnet_cli.replay.parser import ReplayOptions, parse
from sansnet_core.recording import RecordingError, Replay, conversation
from sansnet_trio.linux.files import open_output

if TYPE_CHECKING:
    from sansnet_core.recording import Capture, Step

__all__ = ["replay"]

_PIECE: Final = 1 << 20
_LONGEST: Final = 60.0
"""Seconds of processor time that one input may take. Those of a network take milliseconds; a file of a stranger may
have a state in which one takes hours."""
_LINES: Final = 1000
"""Lines that are printed together."""


class _TooLong(BaseException):
    """An input takes too long. Not an `Exception`, which a replay takes for one of the network."""


def replay(arguments: Sequence[str]) -> int:
    """Run `sansnet replay`.

    Args:
        arguments: the words after `replay`.

    Returns:
        The exit status: 0 if all outputs are the same as the recorded ones, and 1 if not.

    Raises:
        CommandLineError: an argument is wrong, or a file cannot be used.
    """
    options = parse(arguments)
    gc.enable()
    with ExitStack() as stack:
        file = stack.enter_context(_opened(options.file))
        if options.pcapng is not None:
            _check_other(options.pcapng, options.file, file)
        pieces = _pieces(file, options.file)
        try:
            with _limited():
                made = Replay(pieces, stop_at_difference=False)
        except (RecordingError, _TooLong) as error:
            say(f"sansnet: {options.file}: {error}")
            return 1
        if options.python and not made.can_replay:
            say(f"sansnet: {options.file}: it begins in the middle, so there is no network for --python; leave it out")
            return 1
        written = None if options.pcapng is None else stack.enter_context(_created(options.pcapng))
        return _Command(options, made, written).run()


class _Command:
    """One run of the command.

    Args:
        options: its options.
        made: the replay, at its beginning.
        written: the descriptor of a capture; None without one.
    """

    def __init__(self, options: ReplayOptions, made: Replay, written: int | None) -> None:
        self._options = options
        self._replay = made
        self._written = written
        self._capture: Capture | None = None
        self._lines: list[str] = []
        self._last: Step | None = None
        self._differences = 0

    def run(self) -> int:
        """Replay, and return the exit status."""
        if self._written is not None:
            from sansnet_core.recording import Capture

            self._capture = Capture(self._replay)
            self._write(self._capture.header)
        damage: RecordingError | _TooLong | None = None
        try:
            with _limited():
                for step in self._replay.steps(self._options.until, self._options.at):
                    _begin_limit()
                    self._last = step
                    self._show(step)
                    if step.difference is not None:
                        self._differences += 1
                        if self._differences == 1 and self._replay.version != __version__:
                            self._complain(f"sansnet {self._replay.version:.20} recorded it, and this is {__version__}")
                        self._complain(str(step.difference))
                        if not self._options.keep_going:
                            break
        except (RecordingError, _TooLong) as error:
            damage = error
        if damage is not None:
            self._complain(f"{damage}; what follows is about the part before it")
        self._flush()
        self._conclude()
        if self._options.python and not isinstance(damage, _TooLong):  # that network is in the middle of an input
            from sansnet_cli.replay.prompt import interact

            interact(self._replay, self._last)
        return int(damage is not None or self._differences > 0 or not self._replay.can_replay)

    def _complain(self, sentence: str) -> None:
        self._flush()
        say(f"sansnet: {self._options.file}: {sentence}")

    def _show(self, step: Step) -> None:
        if step.number < self._options.begin:
            return
        try:
            lines = conversation(step) if self._options.show else []
            packets = self._capture.packets(step) if self._capture is not None else b""
        except Exception as error:  # a network from a damaged state gives anything
            what = f"{step.method} gives what cannot be shown ({type(error).__name__}: {error!s:.100})"
            raise RecordingError(f"the state in the recording is damaged: input {step.number}, {what}", 0) from error
        self._lines += lines
        if len(self._lines) >= _LINES:
            self._flush()
        if packets:
            self._write(packets)

    def _flush(self) -> None:
        if self._lines:
            put("\n".join(self._lines) + "\n")
            self._lines.clear()

    def _write(self, data: bytes) -> None:
        assert self._written is not None
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._written, rest) :]
        except BrokenPipeError:
            raise SystemExit(1) from None
        except OSError as error:
            raise Unwritable(f"--pcapng {self._options.pcapng}: {error.strerror}; give another file") from error

    def _conclude(self) -> None:
        """Print the result."""
        number, seconds = (0, 0.0) if self._last is None else (self._last.number, self._last.time)
        inputs = "1 input" if number == 1 else f"{number} inputs"
        if not self._replay.can_replay:
            result = "they were read only, since the recording begins in the middle, without the state before it"
        elif not self._differences:
            result = "all outputs are the same"
        elif self._options.keep_going:
            result = f"{self._differences} of them have other outputs"
        else:
            result = f"input {number} has other outputs than the recording"
        time = f"over {seconds:.3f} s" if seconds >= 0 else "with times before the beginning"
        if number < self._options.begin and self._options.begin > 1:
            result += f"; --from {self._options.begin} is behind the last of them, so nothing is shown"
        options = self._options
        if options.until is not None and number < options.until and self._replay.ended:
            result += f"; --until {options.until} is behind the last of them"
        if options.at is not None and seconds < options.at and self._replay.ended:
            result += f"; --at {options.at:g} is behind the last of them"
        if self._last is not None and self._last.raised and self._replay.ended:
            result += f"; the last one raises {self._last.raised.splitlines()[0]}"
        line = f"{self._options.file}: {inputs} {time}; {result}"
        if self._options.pcapng == "-":
            say(line)
        else:
            put(line + "\n")


@contextmanager
def _limited() -> Iterator[None]:
    """Limit the processor time until the end, or until `_begin_limit` is called.

    Raises:
        _TooLong: it is over.
    """
    before = signal.signal(signal.SIGVTALRM, _stop)
    _begin_limit()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _begin_limit() -> None:
    signal.setitimer(signal.ITIMER_VIRTUAL, _LONGEST)


def _stop(number: int, frame: FrameType | None) -> None:
    raise _TooLong(f"the state in the recording is damaged: an input takes more than {_LONGEST:g} s of processor time")


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    if path == "-":
        yield sys.stdin.buffer
        return
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "rb", buffering=0))
        except OSError as error:
            raise CommandLineError(
                f"the recording {path} cannot be read ({error.strerror}); give another one"
            ) from error
        yield file


def _pieces(file: BinaryIO, name: str) -> Iterator[bytes]:
    while True:
        try:
            piece = file.read(_PIECE)
        except OSError as error:
            raise CommandLineError(
                f"the recording {name} cannot be read ({error.strerror}); give another one"
            ) from error
        if not piece:
            return
        yield piece


def _check_other(path: str, recording: str, file: BinaryIO) -> None:
    """Check that the capture is not written over the recording, by whatever name."""
    try:
        same = path != "-" and os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except OSError:
        return  # there is no such file yet
    if same:
        raise CommandLineError(f"--pcapng would overwrite the recording {recording}; give another file")


@contextmanager
def _created(path: str) -> Iterator[int]:
    """A descriptor of a new file, or that of stdout."""
    if path == "-":
        yield sys.stdout.fileno()
        return
    try:
        descriptor = open_output(path)
    except OSError as error:
        raise CommandLineError(
            f"the file {path} of --pcapng cannot be written ({error.strerror}); give another one"
        ) from error
    os.set_blocking(descriptor, True)  # nothing waits for this command
    try:
        yield descriptor
    finally:
        os.close(descriptor)
