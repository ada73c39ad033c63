"""The options for a bad network: delay, rate and faults, in both directions or in one."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from sansnet_cli.options.records import CommandLineError
from sansnet_cli.options.values import BadValue, typed
from sansnet_core.errors import ConfigError

if TYPE_CHECKING:
    from sansnet_core.impairment import Impairment

__all__ = ["DIRECTIONS", "add_impairment_options", "changed", "impairment_options", "perfect"]

DIRECTIONS: Final = ("up", "down")
"""From the guest, and to it."""
_FRAMES: Final = {"up": "frames from the guest (up)", "down": "frames to the guest (down)"}

_TIMES: Final = {"us": 1e6, "ms": 1e3, "s": 1.0}
"""How many make a second."""
_RATES: Final = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_NUMBER: Final = r"(\d{1,12}(?:\.\d{1,9})?)"
_LONGEST: Final = 3600.0
"""Seconds of a delay, at most."""
_DISTRIBUTIONS: Final = ("uniform", "normal", "pareto")


def _time(text: str) -> float:
    """Seconds, from 100ms, 1.5s or 20us."""
    found = re.fullmatch(rf"{_NUMBER}(us|ms|s)", text, re.ASCII | re.IGNORECASE)
    if text == "0":
        return 0.0
    if found is None:
        raise BadValue(f"{text!r} is not a time like 100ms, 1.5s or 20us")
    seconds = float(found[1]) / _TIMES[found[2].lower()]
    if seconds > _LONGEST:
        raise BadValue(f"{text!r} is more than {_LONGEST:.0f} s")
    return seconds


def _rate(text: str) -> float:
    """Bits per second, from 10mbit, 500kbit or 1.5gbit; 0 is no limit."""
    found = re.fullmatch(rf"{_NUMBER}([kmg]?)bit(/s|ps)?", text, re.ASCII | re.IGNORECASE)
    if text in ("0", "none"):
        return 0.0
    if found is None or not float(found[1]):
        raise BadValue(f"{text!r} is not a rate like 10mbit, 500kbit or 1gbit, in bits per second; or `none`")
    return float(found[1]) * _RATES[found[2].lower()]


def _share(text: str) -> float:
    """A probability, from 1% or 0.5%."""
    found = re.fullmatch(rf"{_NUMBER}%", text, re.ASCII)
    if text == "0":
        return 0.0
    if found is not None and float(found[1]) > 100:
        raise BadValue(f"{text!r} is more than all frames; give 100% at most")
    if found is None:
        raise BadValue(f"{text!r} is not a share of the frames like 1% or 0.5%")
    return float(found[1]) / 100


def _frames(text: str) -> int | None:
    """A number of frames."""
    if text == "default":
        return None
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not int(text):
        raise BadValue(f"{text!r} is not a number of frames like 100; or `default`")
    return int(text)


def _burst(text: str) -> float | None:
    """A mean number of frames, from 5 or 2.5."""
    if text == "none":
        return None
    if not re.fullmatch(_NUMBER, text, re.ASCII) or float(text) < 1:
        raise BadValue(f"{text!r} is not a mean number of frames like 5; or `none`")
    return float(text)


def _distribution(text: str) -> str:
    if text not in _DISTRIBUTIONS:
        raise BadValue(f"{text!r} is none of {', '.join(_DISTRIBUTIONS)}")
    return text


def _yes(text: str) -> bool:
    if text not in ("yes", "no"):
        raise BadValue(f"{text!r} is neither yes nor no")
    return text == "yes"


_OPTIONS: Final[dict[str, tuple[str, Callable[[str], Any], str, str]]] = {
    "delay": ("--delay", _time, "TIME", "the time that each frame takes, such as 100ms"),
    "jitter": ("--jitter", _time, "TIME", "how much the delay varies, such as 20ms"),
    "distribution": (
        "--distribution",
        _distribution,
        "KIND",
        "how it varies: `uniform`, the default, within the jitter; `normal` or `pareto`, with the jitter as standard "
        "deviation",
    ),
    "jitter_reorders": (
        "--jitter-reorders",
        _yes,
        "yes|no",
        "whether frames with a smaller delay overtake others; default: no, all keep their order",
    ),
    "rate": ("--rate", _rate, "RATE", "bits per second, such as 10mbit or 500kbit"),
    "queue": (
        "--queue",
        _frames,
        "FRAMES",
        "how many frames wait for the rate; more of the guest's are lost; default: 100 ms of full frames, and at "
        "least 20",
    ),
    "loss": ("--loss", _share, "SHARE", "the share of frames that is lost, such as 1%%"),
    "burst": ("--burst", _burst, "FRAMES", "how many frames are lost in a row, on average; default: by chance"),
    "duplicate": ("--duplicate", _share, "SHARE", "the share of frames that comes twice"),
    "reorder": ("--reorder", _share, "SHARE", "the share of frames that others overtake"),
    "hold": ("--hold", _time, "TIME", "by how much they are late, at most; default: 3ms, or three frames at the rate"),
    "corrupt": ("--corrupt", _share, "SHARE", "the share of frames in which one bit is wrong"),
}
"""Field of `Impairment` -> its option, the converter of the value, its name in the help, and the help."""


_REFINES: Final = {
    "distribution": "jitter",
    "jitter_reorders": "jitter",
    "queue": "rate",
    "burst": "loss",
    "hold": "reorder",
}
"""Field -> the field without which it does nothing."""


class _Both(dict[str, Any]):
    """A value for both directions, by direction."""


def _each(convert: Callable[[str], Any]) -> Callable[[str], dict[str, Any]]:
    """A converter of VALUE, up=VALUE or up=VALUE,down=VALUE to values by direction."""

    def converted(text: str) -> dict[str, Any]:
        if "=" not in text:
            return _Both.fromkeys(DIRECTIONS, convert(text))
        values: dict[str, Any] = {}
        for part in text.split(","):
            direction, _, value = part.partition("=")
            if direction not in DIRECTIONS or direction in values:
                raise BadValue(f"{text!r} is not of the form up=VALUE, down=VALUE or up=VALUE,down=VALUE")
            values[direction] = convert(value)
        return values

    return converted


def _seed(text: str) -> int:
    if not re.fullmatch(r"\d{1,18}", text, re.ASCII):
        raise BadValue(f"{text!r} is not a number")
    return int(text)


def add_impairment_options(made: argparse.ArgumentParser, *, seed: bool = True) -> None:
    """Add the options.

    Args:
        made: the command's parser.
        seed: whether the random faults begin with this command.
    """
    group = made.add_argument_group(
        "a bad network",
        "A value is for both directions. up=VALUE is for frames from the guest, down=VALUE for those to it, and "
        "up=VALUE,down=VALUE for both. A value that refines another option, as --burst 5 does with --loss up=1%, is "
        "for the directions that have the other.",
    )
    for name, (option, convert, metavar, text) in _OPTIONS.items():
        group.add_argument(option, type=typed(_each(convert)), dest=f"impair_{name}", metavar=metavar, help=text)
    if seed:
        group.add_argument(
            "--seed",
            type=typed(_seed),
            dest="impair_seed",
            metavar="NUMBER",
            help="the beginning of the random faults: the same frames meet the same faults; default: random",
        )


def changed(parsed: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The fields of `Impairment` that options give, by direction; a direction without any is left out."""
    found: dict[str, dict[str, Any]] = {}
    for name in _OPTIONS:
        for direction, value in (getattr(parsed, f"impair_{name}") or {}).items():
            found.setdefault(direction, {})[name] = value
    return found


def perfect() -> dict[str, Any]:
    """The fields of a perfect network, as JSON values."""
    from sansnet_core.impairment import Impairment

    return {**vars(Impairment()), "distribution": _DISTRIBUTIONS[0]}


def impairment_options(parsed: argparse.Namespace) -> dict[str, Any]:
    """The fields of `NetworkOptions` about impairments, of those that were given.

    Raises:
        CommandLineError: options contradict each other, or do nothing.
    """
    found = changed(parsed)
    if parsed.conf_path is None:  # otherwise, what they need may come from `sansnet ctl impair`
        found = _where_needed(found, parsed)
        _check_effect(found, parsed.impair_seed)
    made = {f"impair_{direction}": _made(fields) for direction, fields in found.items()}
    return {**made, "impair_seed": parsed.impair_seed}


def _where_needed(found: dict[str, dict[str, Any]], parsed: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Without the values for both directions that would do nothing in one of them: `--loss up=9% --burst 5`."""
    kept = {direction: dict(fields) for direction, fields in found.items()}
    for name, needed in _REFINES.items():
        if isinstance(getattr(parsed, f"impair_{name}"), _Both) and any(needed in fields for fields in found.values()):
            for fields in kept.values():
                if needed not in fields:
                    del fields[name]
    return {direction: fields for direction, fields in kept.items() if fields}


def _check_effect(found: dict[str, dict[str, Any]], seed: int | None) -> None:
    """Refuse options that do nothing without another one."""
    if seed is not None and not found:
        raise CommandLineError("--seed does nothing alone; give what is random as well, such as --loss 1%")
    for direction, fields in found.items():
        for name, needed in _REFINES.items():
            if name in fields and needed not in fields:
                option, other = _OPTIONS[name][0], _OPTIONS[needed][0]
                raise CommandLineError(
                    f"{option} does nothing without {other} for {_FRAMES[direction]}; give {other} as well"
                )


def _made(fields: dict[str, Any]) -> Impairment:
    """An impairment with these fields.

    Raises:
        CommandLineError: they contradict each other.
    """
    from sansnet_core.impairment import Distribution, Impairment

    if "distribution" in fields:
        fields = {**fields, "distribution": Distribution(fields["distribution"])}
    try:
        return Impairment(**fields)
    except ConfigError as error:
        raise CommandLineError(f"--{error}") from None
