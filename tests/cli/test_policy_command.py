"""The command `sansnet policy`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

import pytest

from sansnet_cli.options.records import CommandLineError
from sansnet_cli.policy.command import policy
from sansnet_cli.policy.parser import parse
from sansnet_core.policy import load_policy
from tests.cli.test_main import sansnet

FILE: Final = """\
default = "refuse"

[[rule]]
label = "packages"
action = "allow"
protocol = "tcp"
to = ["packages.example.org", "*.cdn.example.net"]
port = [443, "8000-8100"]

[[case]]
to = "packages.example.org:443"
expect = "allow"

[[case]]
to = "1.2.3.4:443"
expect = "refuse"
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("policy.toml").write_text(FILE)
    return "policy.toml"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    """The exit status and the lines on stdout."""
    status = policy(arguments)
    shown = capsys.readouterr()
    assert shown.err == ""
    return status, shown.out.splitlines()


def refusal(*arguments: str) -> str:
    with pytest.raises(CommandLineError) as caught:
        policy(arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_right_file_is_described(capsys: pytest.CaptureFixture[str], file: str) -> None:
    assert run(capsys, "check", file) == (0, ["policy.toml: 1 rule, 2 cases; what no rule matches is refused"])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (FILE.replace('"8000-8100"', '"8100-8000"'), "policy.toml:8: rule 1: port: "),
        (FILE.replace("packages.example.org", "exa mple"), "policy.toml:7: rule 1: to: "),
        (FILE.replace('expect = "refuse"', 'expect = "no"'), "policy.toml:16: case 2: expect: "),
        ('default = "refuse"\n[[rule]\n', "policy.toml:2: "),
        ("preset = 1\n", "policy.toml:1: preset: "),
    ],
)
def test_a_mistake_is_found_by_line_and_field(
    capsys: pytest.CaptureFixture[str], file: str, text: str, line: str
) -> None:
    Path(file).write_text(text)
    status, [said] = run(capsys, "check", file)
    assert status == 1
    assert said.startswith(line)
    assert refusal("test", file).startswith(line)
    assert refusal("explain", file, "a.example:1").startswith(line)
    assert refusal("show", file).startswith(line)


def test_stdin_is_a_file(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(FILE))
    assert run(capsys, "check", "-")[0] == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("x = 1"))
    status, [said] = run(capsys, "check", "-")
    assert (status, said.partition(": ")[0]) == (1, "stdin:1")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["packages.example.org:443"], 0, ["tcp to packages.example.org:443: allow", "rule 1, line 3,", "TLS"]),
        (["a.cdn.example.net:8050"], 0, ["rule 1"]),
        (["cdn.example.net:443"], 1, ["tcp to cdn.example.net:443: refuse", "not resolved"]),
        (["packages.example.org:22"], 1, ["it is about other ports"]),
        (["packages.example.org:443", "--protocol", "udp"], 1, ["it is about tcp"]),
        (["1.2.3.4:443"], 1, ["it is about names"]),
        (["1.2.3.4", "--protocol", "ping"], 1, ["ping to 1.2.3.4: refuse"]),
        (["packages.example.org:443", "--address", "10.0.0.1"], 1, ["an address of a name must be public"]),
        (["packages.example.org:443", "--address", "10.0.0.1", "--address", "1.2.3.4"], 0, ["1.2.3.4: allow"]),
        (["1.2.3.4:80", "--in"], 1, ["tcp from 1.2.3.4:80: refuse"]),
        (["packages.example.org", "--question", "A"], 0, ["question for packages.example.org, type A: allow"]),
        (["packages.example.org", "--question", "CAA"], 1, ['records = ["CAA"]']),
        (["packages.example.org:443", "--refuse", "*.example.org"], 1, ["rule 1 decides: refuse out *.example.org"]),
    ],
)
def test_a_decision_is_explained(
    capsys: pytest.CaptureFixture[str], file: str, arguments: list[str], status: int, words: list[str]
) -> None:
    found, lines = run(capsys, "explain", file, *arguments)
    assert found == status
    for word in words:
        assert word in "\n".join(lines)


def test_rules_of_options_are_explained_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "explain", "1.2.3.4:443", "--preset", "web")[0] == 0
    assert run(capsys, "explain", "--preset", "web", "1.2.3.4:22")[0] == 1
    assert run(capsys, "explain", "--allow", "a.example:22", "a.example:22")[0] == 0
    assert run(capsys, "explain", "--ask", "1.2.3.4:22")[1][0] == "tcp to 1.2.3.4:22: ask"


def test_the_cases_of_a_file_are_run(capsys: pytest.CaptureFixture[str], file: str) -> None:
    status, lines = run(capsys, "test", file)
    assert (status, lines[-1], len(lines)) == (0, "2 of 2 cases passed", 3)
    Path(file).write_text(FILE.replace('expect = "refuse"', 'expect = "allow"'))
    status, lines = run(capsys, "test", file)
    assert (status, lines[-1]) == (1, "1 of 2 cases passed")
    assert lines[1].startswith("policy.toml: line 14: tcp to 1.2.3.4:443: FAILED: ")


def test_what_is_shown_is_a_policy_again(capsys: pytest.CaptureFixture[str], file: str) -> None:
    arguments = ["--allow", "udp 192.0.2.53:53", "--refuse", "private", "--names", "real", "--ask"]
    status, lines = run(capsys, "show", file, *arguments)
    shown = load_policy("\n".join(lines)).policy
    assert status == 0
    assert [str(rule) for rule in shown.rules] == [
        "allow out udp 192.0.2.53:53",
        "refuse out private",
        *(str(rule) for rule in load_policy(FILE).policy.rules),
    ]
    assert shown.default_action is not None
    assert shown.names is not None
    assert (shown.default_action.value, shown.names.value) == ("ask", "real")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "are required"),
        (["check"], "give sansnet policy check FILE"),
        (["check", "a", "b"], "give sansnet policy check FILE"),
        (["show"], "give sansnet policy show [FILE]"),
        (["explain"], "give sansnet policy explain [FILE] HOST:PORT"),
        (["explain", "a.example:1"], "give sansnet policy explain [FILE] HOST:PORT"),
        (["tset", "x"], "did you mean test"),
        (["check", "x", "--preset", "web"], "--preset does not go with check"),
        (["test", "x", "--allow", "y"], "--allow does not go with test"),
        (["show", "x", "--in"], "--in does not go with show"),
        (["explain", "a.example", "--preset", "web", "--question", "A", "--in"], "--question is not about a flow"),
        (["explain", "a.example", "--preset", "web", "--question", "NOPE"], "not a type of records"),
        (["explain", "a.example", "--preset", "web"], "has no port"),
        (["explain", "10.0.0.0/8:1", "--preset", "web"], "is a network"),
        (["explain", "1.2.3.4:80", "--preset", "web", "--address", "1.2.3.4"], "only a host name has them"),
        (["explain", "x", "a.example:1", "--preset", "web"], "--policy and --preset exclude each other"),
        (["check", "/nonexistent"], "cannot be read (No such file or directory)"),
        (["check", "/"], "cannot be read (Is a directory)"),
    ],
)
def test_a_mistake_is_answered_with_its_remedy(arguments: list[str], words: str) -> None:
    assert words in refusal(*arguments)


def test_a_file_without_cases_is_not_tested(file: str) -> None:
    Path(file).write_text('default = "allow"\n')
    assert "has no cases; write [[case]]" in refusal("test", file)


def test_the_words_may_be_anywhere() -> None:
    made = parse(["explain", "--protocol", "udp", "a.toml", "--in", "1.2.3.4:1"])
    assert (made.file, made.target, made.protocol, made.inbound) == ("a.toml", "1.2.3.4:1", "udp", True)


@pytest.mark.slow
def test_the_exit_status_is_that_of_the_answer(file: str) -> None:
    for arguments, status in (
        (["check", file], 0),
        (["explain", file, "1.2.3.4:80"], 1),
        (["explain", file, "nonsense"], 2),
        (["test", file], 0),
        (["--help"], 0),
    ):
        assert sansnet("policy", *arguments).returncode == status
