"""The options for a bad network, and their text for people."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from sansnet_cli.attach.parser import parse as parse_attach
from sansnet_cli.ctl.parser import parse as parse_ctl
from sansnet_cli.options.records import CommandLineError
from sansnet_cli.output.impairments import described
from sansnet_cli.qemu.parser import parse as parse_qemu
from sansnet_cli.run.parser import parse as parse_run
from sansnet_cli.runtime.impairment import unimpaired
from sansnet_cli.serve.parser import parse as parse_serve
from sansnet_core.impairment import Distribution, Impairment

ALL = ["--delay", "100ms", "--rate", "up=1mbit,down=16mbit", "--loss", "down=1%", "--seed", "7"]


@pytest.mark.parametrize(
    ("parse", "before"),
    [
        (parse_run, []),
        (parse_attach, ["--netns", "blue"]),
        (parse_serve, ["--socket", "/tmp/socket"]),
        (parse_qemu, []),
    ],
)
def test_every_command_with_a_guest_has_them(parse: Any, before: list[str]) -> None:
    options = parse([*before, *ALL])
    assert options.impair_up == Impairment(delay=0.1, rate=1e6)
    assert options.impair_down == Impairment(delay=0.1, rate=16e6, loss=0.01)
    assert (options.impair_seed, options.mtu) == (7, 1500)
    assert parse(before).impair_up is None


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--delay", "20us", Impairment(delay=20e-6)),
        ("--delay", "1.5s", Impairment(delay=1.5)),
        ("--delay", "0", Impairment()),
        ("--jitter", "2MS", Impairment(jitter=0.002)),
        ("--rate", "56kbit", Impairment(rate=56e3)),
        ("--rate", "1.5Gbit/s", Impairment(rate=1.5e9)),
        ("--rate", "300bit", Impairment(rate=300)),
        ("--rate", "none", Impairment()),
        ("--loss", "0.05%", Impairment(loss=0.0005)),
        ("--loss", "100%", Impairment(loss=1.0)),
        ("--duplicate", "3%", Impairment(duplicate=0.03)),
        ("--reorder", "3%", Impairment(reorder=0.03)),
        ("--corrupt", "3%", Impairment(corrupt=0.03)),
    ],
)
def test_values(option: str, value: str, expected: Impairment) -> None:
    for direction in ("up", "down"):
        options = parse_run([option, f"{direction}={value}"])
        assert getattr(options, f"impair_{direction}") == expected
        assert (options.impair_up is None) != (options.impair_down is None)


@pytest.mark.parametrize(
    ("option", "value", "needed", "expected"),
    [
        ("--distribution", "pareto", "--jitter=1s", Impairment(jitter=1, distribution=Distribution.PARETO)),
        ("--jitter-reorders", "yes", "--jitter=1s", Impairment(jitter=1, jitter_reorders=True)),
        ("--queue", "5", "--rate=1kbit", Impairment(rate=1000, queue=5)),
        ("--queue", "default", "--rate=1kbit", Impairment(rate=1000)),
        ("--burst", "2.5", "--loss=1%", Impairment(loss=0.01, burst=2.5)),
        ("--burst", "none", "--loss=1%", Impairment(loss=0.01)),
        ("--burst", "2", "--loss=0", Impairment(burst=2)),
        ("--hold", "3ms", "--reorder=1%", Impairment(reorder=0.01, hold=0.003)),
        ("--seed", "3", "--delay=1s", Impairment(delay=1)),
    ],
)
def test_values_that_need_another_option(option: str, value: str, needed: str, expected: Impairment) -> None:
    options = parse_run([option, value, needed])
    assert (options.impair_up, options.impair_down) == (expected, expected)
    other = needed.partition("=")[0]
    with pytest.raises(CommandLineError, match=f"^{option} does nothing .*; give ") as caught:
        parse_run([option, value])
    assert "\n" not in str(caught.value)
    if option != "--seed":
        with pytest.raises(
            CommandLineError,
            match=f"^{option} does nothing without {other} for frames to the guest .down.; give {other} as",
        ):
            parse_run([option, f"up={value},down={value}", f"{other}=up={needed.partition('=')[2]}"])
    assert parse_run([option, value, "-c", "/tmp/control"]).control == "/tmp/control"  # it may be given by ctl


@pytest.mark.parametrize(
    ("line", "up", "down"),
    [
        ("--loss up=20% --burst 5", Impairment(loss=0.2, burst=5.0), None),
        ("--rate down=1mbit --queue 3", None, Impairment(rate=1e6, queue=3)),
        (
            "--delay down=50ms --jitter down=10ms --distribution normal",
            None,
            Impairment(delay=0.05, jitter=0.01, distribution=Distribution.NORMAL),
        ),
        ("--loss up=20% --delay 1s --burst 5", Impairment(loss=0.2, burst=5.0, delay=1.0), Impairment(delay=1.0)),
    ],
)
def test_a_refinement_is_for_the_directions_that_have_what_it_refines(
    line: str, up: Impairment | None, down: Impairment | None
) -> None:
    options = parse_run([*line.split(), "--", "true"])
    assert (options.impair_up, options.impair_down) == (up, down)


@pytest.mark.parametrize(
    ("impairment", "text"),
    [
        (Impairment(queue=3), "queue 3 frames (without a rate)"),
        (Impairment(burst=5.0, delay=1.0), "delay 1s, bursts of 5 (without a loss)"),
        (Impairment(hold=0.01), "hold 10ms (without reorder)"),
        (
            Impairment(distribution=Distribution.NORMAL, jitter_reorders=True),
            "distribution normal (without jitter), reordering jitter (without jitter)",
        ),
    ],
)
def test_what_has_no_effect_yet_is_shown(impairment: Impairment, text: str) -> None:
    assert described({**vars(impairment), "distribution": impairment.distribution.value}) == text


def test_what_meets_no_impairment_is_said() -> None:
    assert unimpaired(parse_run(["--delay", "1ms"]).ports) is None
    assert unimpaired(parse_run(["-T", "80", "-t", "81"]).ports) == (
        "connections by -T and by -t from the host's own loopback do not meet the bad network, as they need no frames"
    )


def test_more_than_all_frames_is_no_share() -> None:
    with pytest.raises(CommandLineError, match="'150%' is more than all frames; give 100% at most"):
        parse_run(["--loss", "150%"])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("--delay", value) for value in ("100", "ms", "-1ms", "1e3ms", "100 ms", "2h", "9999s", "nan", "")],
        *[("--rate", value) for value in ("10", "10mbps", "10MB", "0bit", "-1mbit", "inf")],
        *[("--loss", value) for value in ("1", "0.01", "101%", "-1%", "%")],
        *[("--queue", value) for value in ("0", "-1", "1.5", "many")],
        *[("--burst", value) for value in ("0", "0.5", "x")],
        ("--distribution", "gauss"),
        ("--jitter-reorders", "maybe"),
        ("--seed", "-1"),
        *[("--delay", value) for value in ("up=", "left=1ms", "up=1ms,up=2ms", "up=1ms,2ms", "1ms,up=2ms")],
    ],
)
def test_wrong_values_are_one_sentence_that_names_the_option(option: str, value: str) -> None:
    with pytest.raises(CommandLineError, match=option) as caught:
        parse_run([f"{option}={value}"])
    assert "\n" not in str(caught.value)


def test_options_that_contradict_each_other() -> None:
    with pytest.raises(CommandLineError, match="--burst: at least one frame passes between two bursts"):
        parse_run(["--loss", "60%", "--burst", "1"])


@pytest.mark.parametrize(
    "words", [["flows", "--delay", "1ms"], ["impair", "bad"], ["impair", "none", "more"], ["impair", "--seed", "1"]]
)
def test_wrong_words_for_ctl(words: list[str]) -> None:
    with pytest.raises(CommandLineError):
        parse_ctl(["path", *words])


def test_none_is_a_perfect_network_with_the_options_that_follow() -> None:
    found = parse_ctl(["path", "impair", "none", "--delay", "up=1s"]).impair
    assert (found["up"]["delay"], found["down"]["delay"], found["up"]["loss"]) == (1.0, 0.0, 0.0)
    assert set(found["up"]) == set(vars(Impairment()))


@pytest.mark.parametrize(
    ("impairment", "text"),
    [
        (Impairment(), "none"),
        (Impairment(delay=0.1, jitter=20e-6), "delay 100ms, jitter 20us (uniform)"),
        (Impairment(jitter=2.0, jitter_reorders=True), "delay 0s, jitter 2s (uniform, which reorders)"),
        (Impairment(rate=1e7, queue=5), "rate 10mbit, queue 5 frames"),
        (Impairment(rate=300), "rate 300bit"),
        (Impairment(loss=0.01, burst=5), "loss 1% in bursts of 5"),
        (Impairment(reorder=0.5, hold=0.01, corrupt=0.001), "reorder 50% by up to 10ms, corrupt 0.1%"),
    ],
)
def test_the_text_for_people(impairment: Impairment, text: str) -> None:
    assert described({**vars(impairment), "distribution": impairment.distribution.value}) == text


@pytest.mark.parametrize("options", ["", "--verbose", "--rate 10mbit"])
def test_the_module_is_loaded_only_for_impairments(options: str) -> None:
    """Neither by the parsing of a command line, nor by the driver."""
    program = (
        "import sys\n"
        "from sansnet_cli.run.parser import parse\n"
        f"parse([*{options.split()!r}, '--', 'true'])\n"
        "import sansnet_cli.run.start, sansnet_cli.run.serve, sansnet_cli.runtime.session\n"
        "loaded = ('sansnet_core.impairment', 'sansnet_trio.cables')\n"
        "print(any(name.startswith(loaded) for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == f"{'rate' in options}\n"
