"""`pesto`: its arguments become requests to a control socket."""

from __future__ import annotations

from typing import Any

import pytest

from sansnet_cli.compat import pesto
from sansnet_cli.ctl.client import ControlError

TAKEN = "6666"
"""A port that another program has."""


class Pasta:
    """A sansnet that keeps its forwards in a list; its control socket is `/sock`."""

    def __init__(self, *forwards: str) -> None:
        self.forwards = list(forwards)

    def ask(self, path: str, request: dict[str, Any]) -> dict[str, Any]:
        assert path == "/sock"
        ports = [f"{one['option']} {one['spec']}" for one in request.get("forwards", [])]
        match request["command"]:
            case "add":
                if any(TAKEN in port for port in ports):
                    raise ControlError(f"port {TAKEN} of the host cannot be bound")
                self.forwards += ports
            case "delete":
                for port in ports:
                    self.forwards.remove(port)
            case "clear":
                self.forwards.clear()
        return {"forwards": [dict(zip(("option", "spec"), one.split(" "), strict=True)) for one in self.forwards]}


@pytest.fixture
def pasta(monkeypatch: pytest.MonkeyPatch) -> Pasta:
    made = Pasta("-t 22", "-u 53", "-T 5432")
    monkeypatch.setattr(pesto, "ask", made.ask)
    return made


@pytest.mark.parametrize(
    ("words", "forwards"),
    [
        ("--add -t 0.0.0.0/80:10.89.0.2/80 -u 1", ["-t 22", "-u 53", "-T 5432", "-t 0.0.0.0/80:10.89.0.2/80", "-u 1"]),
        ("--delete -t 22 --udp-ports=53", ["-T 5432"]),
        ("-A -t 80 -D -T 5432 -A -U 1", ["-t 22", "-u 53", "-t 80", "-U 1"]),
        ("-C HOST", ["-T 5432"]),
        ("-C SPLICE -t 80", ["-t 22", "-u 53", "-t 80"]),
        ("-C HOST -D -T 5432", []),
        ("-t 80 -t 81", ["-t 80", "-t 81"]),
        ("-d", ["-t 22", "-u 53", "-T 5432"]),
    ],
)  # fmt: skip
def test_ports_are_added_deleted_and_replaced(pasta: Pasta, words: str, forwards: list[str]) -> None:
    assert pesto.main([*words.split(), "/sock"]) == 0
    assert pasta.forwards == forwards


@pytest.mark.parametrize("words", ["-A -t 80 -u 6666", "-t 6666", "-D -t 22 -A -t 6666", "-C HOST -A -t 80 -t 6666"])
def test_nothing_is_changed_if_something_cannot_be(
    pasta: Pasta, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pesto.main([*words.split(), "/sock"]) == 1
    assert pasta.forwards == ["-t 22", "-u 53", "-T 5432"]
    assert capsys.readouterr() == ("", "pesto: port 6666 of the host cannot be bound\n")


@pytest.mark.parametrize("words", ["-s", ""])
def test_what_is_forwarded_is_shown(pasta: Pasta, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert pesto.main([*words.split(), "/sock"]) == 0
    assert capsys.readouterr() == ("HOST:\n    -t 22\n    -u 53\nSPLICE:\n    -T 5432\n", "")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("--foo /sock", "pesto: unrecognized option '--foo'\nusage: pesto [OPTION]... PATH\n"),
        ("-A -t 80", "pesto: give the path of one control socket"),
        ("-A -t 80 /sock /other", "pesto: give the path of one control socket"),
        ("-C EVERYTHING /sock", "pesto: --clear EVERYTHING is neither HOST nor SPLICE; give one of them\n"),
    ],
)
def test_misuse(pasta: Pasta, words: str, complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert pesto.main(words.split()) == 1
    out, errors = capsys.readouterr()
    assert (out, errors[: len(complaint)]) == ("", complaint)
    assert pasta.forwards == ["-t 22", "-u 53", "-T 5432"]


@pytest.mark.parametrize(("word", "start"), [("--help", "usage: pesto"), ("--version", "pesto ")])
def test_information(word: str, start: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert pesto.main([word]) == 0
    assert capsys.readouterr().out.startswith(start)
