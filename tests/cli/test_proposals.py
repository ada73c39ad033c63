"""The messages for wrong command lines, and the examples at the end of every help."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence
from typing import Final

import pytest

from sansnet_cli.attach import parser as attach_parser
from sansnet_cli.ctl import parser as ctl_parser
from sansnet_cli.main import _HELP
from sansnet_cli.options.proposals import unknown_command
from sansnet_cli.options.records import CommandLineError
from sansnet_cli.policy import parser as policy_parser
from sansnet_cli.qemu import parser as qemu_parser
from sansnet_cli.run import parser as run_parser
from sansnet_cli.serve import parser as serve_parser

COMMANDS: Final = ("run", "attach", "serve", "qemu", "ctl", "policy", "pasta", "passt", "pesto")

Parse = Callable[[Sequence[str]], object]
PARSE: Final[dict[str, Parse]] = {
    "run": run_parser.parse,
    "attach": attach_parser.parse,
    "serve": serve_parser.parse,
    "qemu": qemu_parser.parse,
    "ctl": ctl_parser.parse,
    "policy": policy_parser.parse,
}
REST: Final = {"run": ["true"], "attach": ["1"], "serve": ["-s", "x"], "qemu": ["--"]}


def refusal(command: str, *arguments: str) -> str:
    with pytest.raises(CommandLineError) as caught:
        PARSE[command](arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("command", sorted(REST))
@pytest.mark.parametrize(
    ("given", "right"),
    [
        ("8080", "-t 8080"),
        ("8080:80", "-t 8080:80"),
        ("8080:80/tcp", "-t 8080:80"),
        ("8080:80/udp", "-u 8080:80"),
        ("127.0.0.1:8080:80", "-t 127.0.0.1/8080:80"),
        ("127.0.0.1::80", "-t 127.0.0.1/80"),
        ("localhost:8080:80", "-t 127.0.0.1/8080:80"),
        ("[::1]:8080:80", "-t [::1]/8080:80"),
        ("127.0.0.1/8080:80", "-t 127.0.0.1/8080:80"),
        (":80", "-t 80"),
        ("8000-8010:9000-9010", "-t 8000-8010:9000-9010"),
        ("80,443", "-t 80,443"),
    ],
)
def test_ports_are_no_name_of_a_capture(command: str, given: str, right: str) -> None:
    for form in (["-p", given], [f"-p{given}"], [f"--pcap={given}"]):
        text = refusal(command, *form, *REST[command])
        assert f"give {right}, or -p ./{given} for a file" in text
        PARSE[command]([*right.split(), *REST[command]])


@pytest.mark.parametrize("name", ["./8080:80", "all.pcap", "8080.pcap", "80a", "dir/80", "2026-11-29", "/tmp/1", "-"])
def test_other_names_of_captures_are_files(name: str) -> None:
    assert run_parser.parse([f"--pcap={name}", "true"]).pcap == name


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        ("run", ["--publish", "8080:80"], "give ports by -t (TCP) or -u (UDP), as -t 8080:80"),
        ("run", ["--publish=8080:80"], "give ports by -t (TCP)"),
        ("serve", ["-s", "x", "--publish=8080:80"], "give ports by -t (TCP)"),
        ("run", ["-P", "true"], "give -t auto"),
        ("run", ["--net=host"], "-T for those of the host's loopback"),
        ("serve", ["-s", "x", "--network", "host"], "give -t for ports that lead to it; see"),
        ("run", ["--rm", "ls"], "leave it out"),
        ("run", ["-it", "ls"], "-it: the command has your terminal"),
        ("run", ["-d", "ls"], "put & behind the line"),
        ("serve", ["-s", "x", "-d"], "give --background"),
        ("attach", ["-d", "1"], "give --background"),
        ("run", ["--user", "0"], "with --root"),
        ("run", ["-r", "ls"], "with --root"),
        ("run", ["--cidr=10.0.0.0/24"], "-a ADDR/LEN"),
        ("run", ["--disable-host-loopback"], "leave it out"),
        ("run", ["--netns", "x"], "`sansnet attach`"),
        ("attach", ["--debug", "1"], "give -v"),
        ("run", ["--deny", "private"], "give --refuse DEST"),
        ("serve", ["--allow-net=example.org"], "give --allow NAME:PORT, once for each"),
        ("policy", ["show", "--block", "private"], "give --refuse DEST"),
        ("qemu", ["--socks5", "192.0.2.1:1080"], "give --proxy socks5://"),
        ("run", ["--polisy", "x"], "did you mean --policy"),
        ("policy", ["chek", "x"], "did you mean check"),
        ("run", ["--tcp-port", "80"], "did you mean --tcp-ports"),
        ("run", ["--dsn", "192.0.2.1"], "did you mean --dns"),
        ("run", ["--no-splise"], "did you mean --no-splice"),
        ("serve", ["--sock", "x"], "did you mean --socket"),
        ("serve", ["x"], "--socket PATH"),
        ("attach", ["1", "2"], "leave it out"),
        ("attach", ["--pid", "1"], "as in `sansnet attach 4242`"),
        ("attach", ["blue"], "by `podman inspect -f '{{.State.Pid}}' NAME`"),
        ("run", ["-c", "ls -l"], "give -- sh -c 'ls -l', or -c ./PATH"),
        ("qemu", ["--links", "stream"], "did you mean --link; QEMU's own arguments go after --"),
        ("ctl", ["add", "-t", "80"], "comes first: sansnet ctl PATH add -t 80"),
        ("ctl", ["x", "flow"], "did you mean flows"),
        ("ctl", ["x", "show"], "give one of list, add, delete, clear, flows, counters"),
        ("ctl", ["x", "add", "8080:80"], "as -t 8080:80"),
        ("run", ["--root=yes"], "--root takes no value"),
        ("run", ["-D", "192.0.2.1,192.0.2.2"], "once for each"),
        ("run", ["--map-host-loopback", "127.0.0.1"], "as 169.254.1.2"),
        ("run", ["-D", "192.0.2.1", "--dns-host", "192.0.2.2"], "give --dns-forward ADDR too, or leave out -D"),
        ("serve", ["-s", "x", "-D", "none", "--dns-host", "::1"], "give --dns-forward ADDR too, or leave out -D"),
        (
            "run",
            ["-D", "192.0.2.1", "--dns-forward", "fd00::1", "--dns-host", "192.0.2.2"],
            "give --dns-forward ADDR too, or leave out -D",
        ),
    ],
)
def test_a_mistake_is_answered_with_what_may_be_right(command: str, arguments: list[str], words: str) -> None:
    text = refusal(command, *arguments)
    assert words in text


@pytest.mark.parametrize(
    ("command", "arguments"), [("attach", ["--root", "1"]), ("serve", ["-s", "x", "--userns", "y"])]
)
def test_an_option_that_is_like_another_one_in_its_hyphens_only_is_not_proposed(
    command: str, arguments: list[str]
) -> None:
    assert "did you mean" not in refusal(command, *arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "`sansnet run`"),
        (["rnu"], "did you mean `sansnet run`"),
        (["atach", "1"], "did you mean `sansnet attach`"),
        (["exec", "ls"], "did you mean `sansnet run`"),
        (["status"], "did you mean `sansnet ctl PATH list`"),
        (["-t", "80"], "as in `sansnet run -t`"),
        (["-v", "run"], "as in `sansnet run -v`"),
        (["-v"], "did you mean `sansnet --version`"),
        (["sh"], "`sansnet run -- sh ...`"),
        (["xyzzy"], "'xyzzy' is not a command of sansnet"),
    ],
)
def test_an_unknown_command_is_answered_with_a_known_one(arguments: list[str], words: str) -> None:
    assert words in unknown_command(arguments, COMMANDS)


def examples(text: str) -> list[list[str]]:
    """The example lines of a help, split into words."""
    _, _, lines = text.partition("examples:\n")
    return [shlex.split(line, comments=True) for line in lines.splitlines() if line]


@pytest.mark.parametrize(
    "parser",
    [attach_parser.parser, ctl_parser.parser, qemu_parser.parser, run_parser.parser, serve_parser.parser],
)
def test_every_help_ends_with_examples_that_are_understood(parser: Callable[[], argparse.ArgumentParser]) -> None:
    made = parser()
    found = examples(made.format_help())
    assert len(found) >= 3
    for words in found:
        assert words[:2] == made.prog.split()
        PARSE[words[1]](words[2:])


def test_the_help_of_all_commands_ends_with_examples_too() -> None:
    found = examples(_HELP)
    assert {words[1] for words in found} == {"run", "attach", "qemu"}
    for words in found:
        PARSE[words[1]](words[2:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--delay", "-5ms"], "argument --delay: '-5ms' is not a time like"),
        (["--rate", "-1"], "argument --rate: '-1' is not a rate like"),
        (["-m", "-1"], "argument -m/--mtu: '-1' is not a number of bytes"),
        (["-v", "-H", "-x"], "argument -H: -x is taken for an option; write -H=-x; see"),
        (["--allow", "-x"], "argument --allow: -x is taken for an option; write --allow=-x; see"),
        (["-p", "-file"], "argument -p: -file is taken for an option; write -p=-file; see"),
        (["--delay", "--rate", "5mbit"], "argument --delay: expected one argument; see"),
        (["--delay", "-4"], "argument --delay: expected one argument; see"),
        (["-p", "--", "-t", "-5"], "argument -p/--pcap: expected one argument; see"),
        (["--delay"], "argument --delay: expected one argument; see"),
    ],
)
def test_a_value_that_begins_with_a_minus(arguments: list[str], message: str) -> None:
    assert refusal("run", *arguments).startswith(message)


def test_what_the_message_about_a_minus_proposes_is_right() -> None:
    assert run_parser.parse(["--hostname=-x", "--", "true"]).hostname == "-x"
    assert run_parser.parse(["-H=-x", "--", "true"]).hostname == "-x"
