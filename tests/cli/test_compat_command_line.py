"""Command lines are parsed like those of glibc, with the same messages; the tests compare with glibc itself."""

from __future__ import annotations

import ctypes
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sansnet_cli.compat.command_line import BadOption, CommandLine
from sansnet_cli.compat.options import OPTIONS, Option

ORIGINAL: Final = tuple(option for option in OPTIONS if not option.added)
NAMES: Final = [name for option in ORIGINAL for name in (option.name, *option.aliases)]


class LongOption(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("has_arg", ctypes.c_int),
        ("flag", ctypes.c_void_p),
        ("val", ctypes.c_int),
    )


def glibc(words: list[str]) -> tuple[list[tuple[str, str]], list[str] | None]:
    """The result of getopt_long(3) with the originals' options: found options with arguments, and the other words.

    The words are None after an error.
    """
    libc = ctypes.CDLL(None)
    optarg = ctypes.c_char_p.in_dll(libc, "optarg")
    optind = ctypes.c_int.in_dll(libc, "optind")
    optind.value = 0  # begin anew
    rows = [(name, number) for number, option in enumerate(ORIGINAL) for name in (option.name, *option.aliases)]
    table = (LongOption * (len(rows) + 1))(
        *(LongOption(name.encode(), bool(ORIGINAL[number].argument), None, 1000 + number) for name, number in rows)
    )
    letters = "+" + "".join(o.short + (":" if o.argument else "") for o in ORIGINAL if o.short)
    line = [b"pasta", *(word.encode() for word in words)]
    argv = (ctypes.c_char_p * (len(line) + 1))(*line)
    found: list[tuple[str, str]] = []
    while (value := libc.getopt_long(len(line), argv, letters.encode(), table, None)) != -1:
        if value == ord("?"):
            return found, None
        option = ORIGINAL[value - 1000] if value >= 1000 else next(o for o in ORIGINAL if o.short == chr(value))
        found.append((option.name, optarg.value.decode() if option.argument and optarg.value is not None else ""))
    return found, words[optind.value - 1 :]


def ours(words: list[str]) -> tuple[list[tuple[str, str]], list[str] | None, str]:
    found: list[tuple[str, str]] = []
    line = CommandLine(OPTIONS, words)
    try:
        for option, argument in line:
            found.append((option.name, argument))
    except BadOption as bad:
        return found, None, f"pasta: {bad}\n"
    return found, line.rest, ""


WORDS: Final = st.one_of(
    st.sampled_from(NAMES).flatmap(
        lambda name: st.integers(0, len(name)).flatmap(
            lambda size: st.sampled_from(
                [f"--{name[:size]}", f"--{name}", f"--{name[:size]}=x", f"--{name}=", f"-{name}"]
            )
        )
    ),
    st.text("abcdefghpqPtTuU46e1-=x", min_size=1, max_size=5).map(lambda text: f"-{text}"),
    st.sampled_from(["-", "--", "", "x", "sh", "none", "80:[::1]/81"]),
)


@pytest.mark.slow
@given(st.lists(WORDS, max_size=6))
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], max_examples=300)
def test_any_command_line_is_read_as_glibc_reads_it(capfd: pytest.CaptureFixture[str], words: list[str]) -> None:
    capfd.readouterr()
    found, rest = glibc(words)
    complaint = capfd.readouterr().err
    assert ours(words) == (found, rest, complaint)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--map-guest-address", "1"], "unrecognized option '--map-guest-address'"),
        (["--foo=bar"], "unrecognized option '--foo=bar'"),
        (["--mtu"], "option '--mtu' requires an argument"),
        (["--mt"], "option '--mtu' requires an argument"),
        (["--no-tcp=1"], "option '--no-tcp' doesn't allow an argument"),
        (["--tcp"], "option '--tcp' is ambiguous; possibilities: '--tcp-ports' '--tcp-ns'"),
        (["-fx"], "invalid option -- 'x'"),
        (["-fm"], "option requires an argument -- 'm'"),
    ],
)
def test_what_is_wrong_is_said_in_glibcs_words(words: list[str], complaint: str) -> None:
    assert ours(words)[2] == f"pasta: {complaint}\n"


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.added], ids=lambda option: option.name)
def test_an_option_that_the_originals_lack_has_no_abbreviation(option: Option) -> None:
    name = option.name
    if option.argument:
        assert ours([f"--{name}", "x"]) == ours([f"--{name}=x"]) == ([(name, "x")], [], "")
    else:
        assert ours([f"--{name}"]) == ([(name, "")], [], "")
    for size in range(len(name)):
        found, rest, _ = ours([f"--{name[:size]}=x"])
        assert (found, rest) == glibc([f"--{name[:size]}=x"]), size


def test_options_end_at_the_first_word_that_is_none() -> None:
    assert ours(["-f", "--mtu=1500", "-t80", "sh", "-c", "x"]) == (
        [("foreground", ""), ("mtu", "1500"), ("tcp-ports", "80")],
        ["sh", "-c", "x"],
        "",
    )
