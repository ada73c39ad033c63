"""The commands of the control socket."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from sansnet_core import SansnetError
from sansnet_core.ports import TCP, UDP, ForwardRule, parse
from sansnet_core.testing import OUTSIDER6, SERVER, Pair
from sansnet_core.testing.packets import udp
from sansnet_trio.control.commands import ControlCommands, RequestError
from sansnet_trio.driver_statistics import DriverStatistics
from sansnet_trio.forward.forwards import Forwards as RealForwards
from sansnet_trio.sandbox import Level, Mode

STATISTICS = DriverStatistics(*range(1, 8))


class Driver:
    def statistics(self) -> DriverStatistics:
        return STATISTICS


class Forwards:
    """Forwards without listeners."""

    def __init__(self, *specs: str) -> None:
        self.kept = [forward for spec in specs for forward in parse(spec, TCP)]

    @property
    def rules(self) -> Sequence[ForwardRule]:
        return tuple(self.kept)

    def add(self, forwards: Iterable[ForwardRule]) -> None:
        self.kept += forwards

    def remove(self, forwards: Iterable[ForwardRule]) -> None:
        for forward in forwards:
            self.kept.remove(forward)


def make(*specs: str, namespace: bool = True) -> tuple[ControlCommands, Forwards]:
    """Commands with some forwarded TCP ports."""
    commands, forwards = ControlCommands(), Forwards(*specs)
    commands.set_forwards(forwards, namespace=namespace)
    return commands, forwards


def ask(commands: ControlCommands, command: str, **fields: Any) -> Any:
    """Answer a request; both pass through JSON."""
    request = json.loads(json.dumps({"command": command, **fields}))
    return json.loads(json.dumps(commands.answer(request)))


@pytest.mark.parametrize(
    "request_", [{}, {"command": "reboot"}, {"command": 1}, {"command": ["list"]}, {"command": None}]
)
def test_an_unknown_command_is_an_error_that_names_the_commands(request_: dict[str, Any]) -> None:
    with pytest.raises(
        RequestError, match="the command must be one of list, add, delete, clear, flows, counters, policy"
    ):
        ControlCommands().answer(request_)


def test_forwards_are_listed_as_on_the_command_line() -> None:
    commands, _ = make("8080", "[::1]/9000-9010:80-90")
    assert ask(commands, "list") == {
        "forwards": [{"option": "-t", "spec": "8080"}, {"option": "-t", "spec": "::1/9000-9010:80-90"}]
    }


def test_forwards_are_added() -> None:
    commands, forwards = make()
    asked = [
        {"option": "-t", "spec": "80"},
        {"option": "-u", "spec": "53"},
        {"option": "-T", "spec": "5432"},
        {"option": "-U", "spec": "123"},
        {"option": "-t", "spec": "443"},
    ]
    answer = ask(commands, "add", forwards=asked)
    assert sorted((one["option"], one["spec"]) for one in answer["forwards"]) == sorted(
        (one["option"], one["spec"]) for one in asked
    )
    assert {(one.protocol, one.inbound, one.first) for one in forwards.kept} == {
        (TCP, True, 80), (UDP, True, 53), (TCP, False, 5432), (UDP, False, 123), (TCP, True, 443)
    }  # fmt: skip


def test_forwards_are_deleted_and_all_of_them_cleared() -> None:
    commands, forwards = make("80", "443", "8080")
    assert len(ask(commands, "delete", forwards=[{"option": "-t", "spec": "443"}])["forwards"]) == 2
    assert [one.first for one in forwards.kept] == [80, 8080]
    assert ask(commands, "clear") == {"forwards": []}


@pytest.mark.parametrize(
    "asked",
    [
        None,
        [],
        {},
        "80",
        [80],
        ["80"],
        [{}],
        [{"option": "-t"}],
        [{"option": "-x", "spec": "80"}],
        [{"option": ["-t"], "spec": "80"}],
        [{"option": "-t", "spec": 80}],
        [{"option": "-t", "spec": "80"}, {"option": "-t", "spec": None}],
    ],
)
@pytest.mark.parametrize("command", ["add", "delete"])
def test_invalid_lists_of_ports_are_an_error_with_an_example(command: str, asked: Any) -> None:
    commands, forwards = make("80")
    with pytest.raises(RequestError, match="must be a non-empty list"):
        ask(commands, command, forwards=asked)
    assert len(forwards.kept) == 1


@pytest.mark.parametrize("spec", ["http", "0", "80:1-2", "10.0.0.1%/80", "\ud800", "nowhere/80"])
def test_an_invalid_specification_is_quoted_in_the_error(spec: str) -> None:
    with pytest.raises(RequestError, match=r"^-t: '"):
        ask(make()[0], "add", forwards=[{"option": "-t", "spec": spec}])


@pytest.mark.parametrize(("option", "spec"), [("-T", "80"), ("-U", "80"), ("-t", "auto"), ("-u", "auto,80")])
def test_a_machine_has_no_forwards_that_need_a_namespace(option: str, spec: str) -> None:
    commands, forwards = make(namespace=False)
    with pytest.raises(RequestError, match="are for guests in namespaces"):
        ask(commands, "add", forwards=[{"option": option, "spec": spec}])
    assert forwards.kept == []


@pytest.mark.parametrize("command", ["list", "add", "delete", "clear"])
def test_forwards_need_a_ready_guest(command: str) -> None:
    with pytest.raises(RequestError, match="the guest is not ready yet; try again"):
        ask(ControlCommands(), command, forwards=[{"option": "-t", "spec": "80"}])


# flows and counters


def busy() -> Pair:
    """A network with a connection from outside, and two flows that the guest began."""
    pair = Pair()
    pair.accepted(family=6)
    for port in (1000, 1001):
        pair.guest.send(udp(pair.guest.ipv4, port, SERVER, 53, b"question"))
    pair.settle()
    return pair


def test_without_a_guest_there_are_no_flows_and_counters() -> None:
    commands = ControlCommands()
    assert ask(commands, "flows") == {"flows": [], "total": 0}
    assert ask(commands, "counters")["guest"] is False
    with commands.serving(busy().network, Driver()):
        assert ask(commands, "flows")["total"] == 3
    assert ask(commands, "flows")["total"] == 0


def test_flows_are_listed() -> None:
    commands = ControlCommands()
    with commands.serving(busy().network, Driver()):
        answer = ask(commands, "flows")
    outsider = {"address": "2001:db8:eeee::7", "port": OUTSIDER6.port}
    assert answer["flows"][0] == {
        "protocol": "tcp",
        "inbound": True,
        "state": "ESTABLISHED",
        "guest": {"address": "2001:db8::15", "port": 80},
        "remote": outsider,
        "host": outsider,
        "sent": 0,
        "received": 0,
    }
    assert [(flow["protocol"], flow["inbound"], flow["sent"]) for flow in answer["flows"][1:]] == [
        ("udp", False, 8)
    ] * 2


def test_the_number_of_listed_flows_is_limited() -> None:
    commands = ControlCommands()
    with commands.serving(busy().network, Driver()):
        answer = ask(commands, "flows", most=2)
    assert (len(answer["flows"]), answer["total"]) == (2, 3)


@pytest.mark.parametrize("most", [0, -1, 10_001, "5", 1.0, True, None, [1]])
def test_an_invalid_number_of_flows_is_an_error(most: Any) -> None:
    with pytest.raises(RequestError, match="most must be a number between 1 and 10000"):
        ask(ControlCommands(), "flows", most=most)


def test_hints_are_the_present_ones() -> None:
    commands, _ = make()
    hints = ["one"]
    with commands.serving(busy().network, Driver(), hints):
        hints.append("two")
        assert ask(commands, "counters")["hints"] == ["one", "two"]


def test_counters_are_those_of_driver_and_network() -> None:
    pair = busy()
    pair.guest.send_frame(bytes(60))
    pair.settle()
    commands = ControlCommands()
    with commands.serving(pair.network, Driver()):
        answer = ask(commands, "counters")
    meaning = "EtherType other than ARP, IPv4 and IPv6, or of a family that is switched off"
    assert answer["guest"] is True
    assert answer["driver"]["frames_received"] == STATISTICS.frames_received
    assert answer["flows"] == {"udp_flows": 2, "udp_sockets": 2, "echo_flows": 0, "tcp_flows": 1}
    assert answer["tcp_held"] == 0
    assert answer["ignored"] == 0
    assert answer["drops"] == {"ETHERNET_TYPE": {"count": 1, "meaning": meaning}}
    nobody = {"address": "00:00:00:00:00:00", "port": 0}
    assert answer["last_drops"] == {
        "ETHERNET_TYPE": [{"protocol": "ethernet", "source": nobody, "destination": nobody}]
    }


# the documentation


def documented(part: str) -> list[tuple[Any, Any]]:
    """Requests and answers of docs/control.md."""
    text = Path("docs/control.md").read_text()
    shown = re.search(rf"<!-- {part} -->\n```\n(.*?)```", text, re.DOTALL)
    assert shown
    lines = shown[1].splitlines()
    assert [line[:2] for line in lines] == ["> ", "< "] * (len(lines) // 2)
    return [
        (json.loads(asked[2:]), json.loads(answer[2:])) for asked, answer in zip(lines[::2], lines[1::2], strict=True)
    ]


def answer_or_error(commands: ControlCommands, request: Any) -> Any:
    """The answer, with errors as the control socket sends them."""
    try:
        return json.loads(json.dumps(commands.answer(request)))
    except SansnetError as error:
        return {"error": str(error)}


def test_the_documentations_examples_of_ports_are_true() -> None:
    commands = ControlCommands()
    with RealForwards(parse("28080:80", TCP)) as forwards:
        commands.set_forwards(forwards, namespace=True)
        for request, answer in documented("ports"):
            assert answer_or_error(commands, request) == answer


@pytest.mark.parametrize("part", ["flows", "counters"])
def test_the_documentations_examples_of_a_guest_are_true(part: str) -> None:
    pair = Pair()
    pair.accepted()
    pair.guest.send_frame(bytes(60))
    pair.settle()
    commands = ControlCommands()
    commands.set_sandbox(Level(seccomp=Mode.ENFORCE, landlock=7, files=False))
    with commands.serving(pair.network, Driver()):
        [(request, answer)] = documented(part)
        assert answer_or_error(commands, request) == answer
