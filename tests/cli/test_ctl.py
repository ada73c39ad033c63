"""`sansnet ctl`: its arguments, and its output."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sansnet_cli.ctl import client
from sansnet_cli.ctl.client import ControlError, ask
from sansnet_cli.ctl.command import ctl, show
from sansnet_cli.ctl.parser import CtlOptions, parse
from sansnet_cli.ctl.policy import PolicyText, read_policy
from sansnet_cli.options.records import CommandLineError
from sansnet_cli.run.parser import parse as parse_run
from sansnet_cli.serve.parser import parse as parse_serve
from sansnet_core import SansnetError


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["p", "list"], CtlOptions(path="p", command="list")),
        (["p", "clear", "--json"], CtlOptions(path="p", command="clear", json=True)),
        (["p", "flows", "--most", "5"], CtlOptions(path="p", command="flows", most=5)),
        (
            ["p", "add", "-U", "53", "-t", "80", "--tcp-ports", "443", "--udp-ports=53", "-T", "1-2"],
            CtlOptions(
                path="p",
                command="add",
                forwards=(("-t", "80"), ("-t", "443"), ("-u", "53"), ("-T", "1-2"), ("-U", "53")),
            ),
        ),
        (["-t", "80", "p", "delete"], CtlOptions(path="p", command="delete", forwards=(("-t", "80"),))),
        (["p", "policy"], CtlOptions(path="p", command="policy")),
        (["p", "policy", "show", "--most", "3"], CtlOptions(path="p", command="policy", most=3)),
        (
            ["p", "policy", "add", "allow", "tcp", "a.example:443"],
            CtlOptions(path="p", command="policy", change="add", rules=("allow tcp a.example:443",)),
        ),
        (
            ["p", "policy", "--keep-flows", "remove", "allow udp", "ask"],
            CtlOptions(path="p", command="policy", change="remove", rules=("allow udp", "ask"), keep_flows=True),
        ),
        (
            ["p", "policy", "replace", "policy.toml"],
            CtlOptions(path="p", command="policy", change="replace", file="policy.toml"),
        ),
        (["p", "allow", "--always", "7"], CtlOptions(path="p", command="allow", id=7, always=True)),
        (["p", "refuse", "7"], CtlOptions(path="p", command="refuse", id=7)),
        (["p", "ask"], CtlOptions(path="p", command="ask")),
        (["p", "impair"], CtlOptions(path="p", command="impair")),
        (
            ["p", "impair", "--delay", "100ms", "--loss", "up=1%"],
            CtlOptions(path="p", command="impair", impair={"up": {"delay": 0.1, "loss": 0.01}, "down": {"delay": 0.1}}),
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_arguments_are_understood(arguments: list[str], options: CtlOptions) -> None:
    assert parse(arguments) == options


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "PATH"),
        (["p"], "COMMAND"),
        (["p", "reboot"], "reboot"),
        (["p", "add"], "add needs ports; give -t, -u, -T or -U SPEC"),
        (["p", "delete"], "delete needs ports"),
        (["p", "list", "-t", "80"], "-t does not go with list; leave it out"),
        (["p", "clear", "-U", "80"], "-U does not go with clear; leave it out"),
        (["p", "list", "--most", "5"], "--most does not go with list; leave it out"),
        (["p", "flows", "--most", "many"], "many"),
        (["p", "flows", "x"], "'x' does not go with flows; leave it out"),
        (["p", "add", "80:80"], "as -t 80:80"),
        (["p", "policy", "change"], "policy change: there is no such change; use show, add, remove, replace"),
        (["p", "policy", "show", "x"], "'x' does not go with policy show"),
        (["p", "policy", "add"], "policy add needs a rule, such as"),
        (["p", "policy", "remove"], "policy remove needs a rule, such as"),
        (["p", "policy", "replace"], "policy replace needs one FILE"),
        (["p", "policy", "replace", "a", "b"], "policy replace needs one FILE"),
        (["p", "allow"], "allow needs the number of one flow that waits"),
        ([], "the socket and the command are missing: sansnet ctl PATH COMMAND"),
        (["p", "flows", "--most", "0"], "argument --most: '0' is not a number from 1 to 10000"),
        (["p", "refuse", "seven"], "refuse needs the number of one flow"),
        (["p", "allow", "1", "2"], "allow needs the number of one flow"),
        (["p", "pending", "--always"], "--always does not go with pending; leave it out"),
        (["p", "allow", "7", "--keep-flows"], "--keep-flows does not go with allow"),
        (["p", "ask", "--json"], "--json does not go with ask"),
        (["p", "flows", "--mos", "5"], "--mos"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_arguments_are_named(arguments: list[str], words: str) -> None:
    with pytest.raises(CommandLineError, match=words):
        parse(arguments)


def test_requests_are_as_documented() -> None:
    options = parse(["p", "add", "-t", "80", "-u", "53"])
    assert options.request() == {
        "command": "add",
        "forwards": [{"option": "-t", "spec": "80"}, {"option": "-u", "spec": "53"}],
    }
    assert parse(["p", "flows", "--most", "5"]).request() == {"command": "flows", "most": 5}
    assert parse(["p", "list"]).request() == {"command": "list"}
    assert parse(["p", "policy"]).request() == {"command": "policy"}
    assert parse(["p", "policy", "add", "ask", "--keep-flows"]).request() == {
        "command": "policy",
        "add": ["ask"],
        "keep_flows": True,
    }
    assert parse(["p", "allow", "7", "--always"]).request() == {"command": "allow", "id": 7, "always": True}
    replaced = parse(["p", "policy", "replace", "x"]).request(PolicyText("text", {"file": "me:secret"}))
    assert replaced == {"command": "policy", "replace": "text", "credentials": {"file": "me:secret"}}


def test_every_guest_may_have_a_control_socket() -> None:
    assert parse_run(["-c", "/tmp/c", "true"]).control == "/tmp/c"
    assert parse_serve(["-s", "/tmp/s", "--conf-path", "/tmp/c"]).control == "/tmp/c"
    assert parse_run(["true"]).control is None
    with pytest.raises(CommandLineError, match="-c"):
        parse_run(["-c", "", "true"])


# asking


@contextmanager
def answering(path: Path, reply: bytes) -> Iterator[list[bytes]]:
    """A server with the same answer for every client; yields the requests."""
    asked: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                asked.append(connection.recv(1 << 16))
                connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        yield asked
        thread.join(5)


def test_the_answer_to_a_request_is_returned(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with answering(path, b'{"flows": [],' + b" " * 200_000 + b'"total": 0}\n') as asked:
        assert ask(str(path), {"command": "flows"}) == {"flows": [], "total": 0}
    assert asked == [b'{"command": "flows"}\n']


def test_an_error_is_told_as_it_came(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with answering(path, b'{"error": "-t 80 is not forwarded"}\n'), pytest.raises(ControlError, match="-t 80 is not"):
        ask(str(path), {})


def test_who_is_refused_before_he_asks_is_told_why(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def refuse() -> None:
            connection, _ = listener.accept()
            connection.sendall(b'{"error": "not you"}\n')
            connection.close()

        thread = threading.Thread(target=refuse)
        thread.start()
        request = {"command": "list", "much": "x" * 1_000_000}  # so that it cannot have been sent before that
        with pytest.raises(ControlError, match="not you"):
            ask(str(path), request)
        thread.join(5)


@pytest.mark.parametrize("reply", [b"", b"hello\n", b"[]\n", b"{", b"\xff\n", b"1\n", b"[" * 100_000])
def test_what_is_no_answer_is_said_to_be_none(tmp_path: Path, reply: bytes) -> None:
    path = tmp_path / "control"
    with answering(path, reply), pytest.raises(ControlError, match="does not answer as a control socket does"):
        ask(str(path), {})


def test_an_answer_without_an_end_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_MAX_ANSWER", 1000)
    path = tmp_path / "control"
    with answering(path, b"x" * 2000), pytest.raises(ControlError, match="does not answer as"):
        ask(str(path), {})


def test_nobody_there_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with pytest.raises(ControlError, match=f"cannot connect to {path}: No such file or directory"):
        ask(str(path), {})
    with pytest.raises(ControlError, match=f"{tmp_path} is not a socket; give the path of the option -c"):
        ask(str(tmp_path), {})
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
    with pytest.raises(ControlError, match=f"no process listens on {path}; start sansnet with -c {path}"):
        ask(str(path), {})


def test_who_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_ANSWER_TIMEOUT", 0.1)
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        with pytest.raises(ControlError, match="does not answer; check that it is a control socket"):
            ask(str(path), {})
        with pytest.raises(ControlError, match="does not answer; check that it is a control socket"):
            ask(str(path), {})


# text


def flow(**fields: Any) -> dict[str, Any]:
    remote = {"address": "198.51.100.7", "port": 5000}
    made = {
        "protocol": "tcp",
        "inbound": True,
        "state": "ESTABLISHED",
        "guest": {"address": "10.0.2.15", "port": 80},
        "remote": remote,
        "host": remote,
        "sent": 12,
        "received": 3456,
    }
    return made | fields


def test_forwards_are_shown_as_they_are_given() -> None:
    answer = {"forwards": [{"option": "-t", "spec": "8080:80"}, {"option": "-U", "spec": "53"}]}
    for command in ("list", "add", "delete", "clear"):
        assert show(command, answer) == "-t 8080:80\n-U 53"
    assert show("list", {"forwards": []}) == "no ports are forwarded"


def test_flows_are_a_table() -> None:
    own = flow(
        protocol="udp",
        inbound=False,
        state="OPEN",
        remote={"address": "2001:db8::1", "port": 53},
        host={"address": "::1", "port": 53},
    )
    text = show("flows", {"flows": [flow(), own], "total": 5})
    assert [line.split() for line in text.splitlines()] == [
        ["PROTOCOL", "STATE", "GUEST", "REMOTE", "HOST", "SENT", "RECEIVED"],
        ["tcp", "ESTABLISHED", "10.0.2.15:80", "<-", "198.51.100.7:5000", "12", "3456"],
        ["udp", "OPEN", "10.0.2.15:80", "->", "[2001:db8::1]:53", "[::1]:53", "12", "3456"],
        ["and", "3", "more;", "see", "--most"],
    ]
    assert show("flows", {"flows": [], "total": 0}).count("\n") == 0


def test_counters_are_lines() -> None:
    answer = {
        "guest": True,
        "driver": {"frames_received": 7},
        "flows": {"tcp_flows": 1},
        "tcp_held": 0,
        "tcp_lost": 5,
        "ignored": 3,
        "drops": {
            "TCP_LIMIT": {"count": 2, "meaning": "TCP connection beyond the configured limit"},
            "ETHERNET_TYPE": {"count": 1, "meaning": "EtherType"},
        },
        "last_drops": {
            "TCP_LIMIT": [
                {
                    "protocol": "tcp",
                    "source": {"address": "2001:db8::1", "port": 4000},
                    "destination": {"address": "192.0.2.1", "port": 80},
                }
            ],
            "ETHERNET_TYPE": [
                {
                    "protocol": "ethernet",
                    "source": {"address": "02:00:00:00:00:01", "port": 0},
                    "destination": {"address": "02:00:00:00:00:02", "port": 0},
                }
            ],
        },
        "hints": ["use 7"],
    }
    assert [" ".join(line.split()) for line in show("counters", answer).splitlines()] == [
        "frames received 7",
        "tcp flows 1",
        "tcp bytes held 0",
        "tcp bytes lost 5",
        "frames ignored 3",
        "dropped: TCP connection beyond the configured limit 2",
        "tcp [2001:db8::1]:4000 to 192.0.2.1:80",
        "dropped: EtherType 1",
        "ethernet 02:00:00:00:00:01 to 02:00:00:00:00:02",
        "hint: use 7",
    ]
    assert show("counters", {"guest": False}) == "there is no guest"


def test_a_policy_is_its_rules_and_its_default() -> None:
    answer = {
        "rules": ["allow udp", "refuse private"],
        "total": 5,
        "default": "refuse",
        "names": "own",
        "proxies": ["office", "home"],
    }
    assert show("policy", answer).splitlines() == [
        "allow udp",
        "refuse private",
        "and 3 more; see --most",
        "default: refuse",
        "names: own",
        "proxies: office, home",
    ]
    assert show("policy", {**answer, "rules": [], "total": 0, "names": None, "proxies": []}) == "default: refuse"


def test_flows_that_wait_are_a_table() -> None:
    one = {
        "id": 7,
        "protocol": "tcp",
        "inbound": False,
        "guest": {"address": "10.0.2.15", "port": 40000},
        "destination": {"address": "198.18.0.5", "port": 443},
        "name": "example.org\x1b[2J",
        "left": 27.6,
        "rule": "allow it",
    }
    outside = {**one, "id": 8, "inbound": True, "name": None}
    text = show("pending", {"flows": [one, outside], "total": 3})
    assert [line.split("  ") for line in text.splitlines()][-1] == ["and 1 more; see --most"]
    assert r"example.org\x1b[2J:443 (198.18.0.5)" in text
    assert "10.0.2.15:40000, from 198.18.0.5:443 outside" in text
    assert show("pending", {"flows": [], "total": 0}) == "no flow waits for a decision"


def test_an_answer_says_which_rule_it_became() -> None:
    assert show("allow", {"id": 7, "rule": "allow out tcp example.org:443"}) == (
        "new rule: allow out tcp example.org:443"
    )
    assert show("refuse", {"id": 7, "rule": None}) == "flow 7 is decided"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        (b"\xff", "is not text in UTF-8"),
        (b"#" * ((1 << 20) + 1), "has more than 1048576 bytes"),
        (b"[[rule]]\naction = 1\n", r"policy\.toml:2: "),
        (b'[[proxy]]\nname = "a"\nkind = "http"\nserver = "10.0.0.1:1"\ncredentials = "gone"\n', r"policy\.toml:5: "),
    ],
)
def test_a_policy_file_that_is_wrong_is_named_before_anything_is_sent(
    tmp_path: Path, text: bytes | None, words: str
) -> None:
    path = tmp_path / "policy.toml"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(SansnetError, match=words):
        ctl([str(tmp_path / "control"), "policy", "replace", str(path)])


def test_files_with_credentials_are_beside_the_policy(tmp_path: Path) -> None:
    (tmp_path / "secret").touch(0o600)
    (tmp_path / "secret").write_text("me:pass\n")
    path = tmp_path / "policy.toml"
    path.write_text('[[proxy]]\nname = "a"\nkind = "http"\nserver = "10.0.0.1:1"\ncredentials = "secret"\n')
    assert read_policy(str(path)) == PolicyText(path.read_text(), {"secret": "me:pass\n"})


def test_a_policy_may_come_from_stdin(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with answering(path, b'{"rules": [], "total": 0, "default": "ask", "names": null, "proxies": []}\n') as asked:
        line = [sys.executable, "-W", "error", "-m", "sansnet_cli", "ctl", str(path), "policy", "replace", "-"]
        done = subprocess.run(line, input='default = "ask"\n', capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "default: ask\n", "")
    assert json.loads(asked[0])["replace"] == 'default = "ask"\n'


@pytest.mark.parametrize(
    "arguments",
    [["list"], ["flows"], ["counters"], ["clear", "--json"], ["policy"], ["pending"], ["allow", "1"], ["audit"]],
)
@pytest.mark.parametrize(
    "reply",
    [b'{"QMP": {"version": {}}}', b'{"forwards": 1, "flows": [2], "guest": true}', b'{"forwards": [{"option": []}]}'],
)
def test_an_object_of_others_is_no_answer(tmp_path: Path, arguments: list[str], reply: bytes) -> None:
    path = tmp_path / "control"
    with answering(path, reply + b"\n"), pytest.raises(ControlError, match="does not answer as a control socket does"):
        ctl([str(path), *arguments])


def test_json_is_shown_as_it_came(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "control"
    with answering(path, b'{"forwards": []}\n'):
        assert ctl([str(path), "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"forwards": []}
