"""The command line of `sansnet replay`."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence

from sansnet_cli.options import values
from sansnet_cli.options.parser import Parser, with_examples
from sansnet_cli.options.records import CommandLineError
from sansnet_cli.options.values import typed
from sansnet_cli.version import version
from sansnet_core.records import Record

__all__ = ["ReplayOptions", "parse", "parser"]


class ReplayOptions(Record):
    """The options of `sansnet replay`.

    Attributes:
        file: path of the recording; "-" is stdin.
        until: number of the last input to replay; None for all.
        at: seconds since the recording began; later inputs are not replayed. None for all.
        begin: number of the first input to show or to write as packets.
        show: whether to print the conversation.
        pcapng: path of a capture to write; "-" is stdout, and None writes none.
        python: whether to start a Python prompt at the end.
        keep_going: whether to go on after a difference.
    """

    file: str
    until: int | None = None
    at: float | None = None
    begin: int = 1
    show: bool = False
    pcapng: str | None = None
    python: bool = False
    keep_going: bool = False


def parser() -> argparse.ArgumentParser:
    """The parser of `sansnet replay`. `parse` checks its result further."""
    made = Parser(
        prog="sansnet replay",
        usage="%(prog)s FILE [OPTIONS]",
        description="Run a recording again: a new network gets the inputs that FILE has, and each output is compared "
        "with the recorded one. No guest and no network access are needed.",
        epilog=with_examples(
            "FILE was made by --record, or because of a mistake in sansnet. It has all data of the guest and the "
            "secret of its network: do not publish it. Nothing in it is executed. The exit status is 0 if all outputs "
            "are the same; 1 if one differs, or FILE is damaged; 2 if an option is wrong.",
            "sansnet replay net.rec                          # is it repeatable?",
            "sansnet replay net.rec --show --at 2.5          # the first 2.5 seconds",
            "sansnet replay net.rec --pcapng net.pcapng      # for Wireshark",
            "sansnet replay net.rec --until 1200 --python    # look at that moment",
        ),
        add_help=False,
    )
    made.add_argument("file", metavar="FILE", help="the recording; - is stdin")
    where = made.add_argument_group("where it ends")
    where.add_argument("--until", type=typed(_number), metavar="N", help="after input N")
    where.add_argument(
        "--at", type=typed(_seconds), metavar="SECONDS", help="before the first input after SECONDS of the recording"
    )
    where.add_argument("--keep-going", action="store_true", help="go on after outputs that differ, and count them")
    what = made.add_argument_group("what it shows")
    what.add_argument(
        "--show", action="store_true", help="print the conversation: a line for each input, frame, order and event"
    )
    what.add_argument(
        "--from", dest="begin", type=typed(_number), metavar="N", help="let --show and --pcapng begin with input N"
    )
    what.add_argument(
        "--pcapng",
        metavar="FILE",
        help="write all frames to FILE; their comments name the input, the flow, the orders, and why a frame was "
        "dropped; - is stdout",
    )
    what.add_argument(
        "--python",
        action="store_true",
        help="start a Python prompt at the end, with `replay`, its `network`, and `step()` for further inputs",
    )
    made.add_argument("--version", action="version", version=version(), help="print the version and exit")
    made.add_argument("-h", "--help", action="help", help="print this and exit")
    return made


def parse(arguments: Sequence[str]) -> ReplayOptions:
    """Parse the arguments after `sansnet replay`.

    Raises:
        CommandLineError: an argument is wrong.
        SystemExit: help or version were asked for and have been printed.
    """
    parsed = parser().parse_args(arguments)
    if parsed.begin is not None and not (parsed.show or parsed.pcapng):
        raise CommandLineError("--from is for --show and --pcapng; give one of them, or leave it out")
    if parsed.begin is not None and parsed.until is not None and parsed.begin > parsed.until:
        raise CommandLineError(f"--from {parsed.begin} is after --until {parsed.until}; give it a smaller number")
    if parsed.pcapng == "-" and (parsed.show or parsed.python):
        raise CommandLineError("--pcapng - takes stdout, which --show and --python need; give --pcapng a file")
    if parsed.python and parsed.file == "-":
        raise CommandLineError("--python reads stdin, so the recording cannot come from there; give it as a file")
    for name in ("file", "pcapng"):
        if getattr(parsed, name) == "":
            raise CommandLineError(f"{'--pcapng' if name == 'pcapng' else 'FILE'} names no file; give a path")
    return ReplayOptions(
        file=parsed.file,
        until=parsed.until,
        at=parsed.at,
        begin=parsed.begin or 1,
        show=parsed.show,
        pcapng=parsed.pcapng,
        python=parsed.python,
        keep_going=parsed.keep_going,
    )


def _number(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,17}", text, re.ASCII):
        raise values.BadValue(f"{text!r} is not the number of an input, which is 1 or more")
    return int(text)


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < math.inf:
        raise values.BadValue(f"{text!r} is not a number of seconds since the beginning")
    return found
