"""`sansnet ctl PATH ask`: questions on a terminal, and what replies do."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from sansnet_cli.ctl.asking import Dialogue, Lines
from sansnet_core import Endpoint, Refuse
from sansnet_core.errors import SansnetError
from sansnet_trio import ControlCommands, ControlSocket, NewFlow
from tests.trio.test_control_policies import GUEST, NAMED, PING, Policed


class Asked:
    """Control commands with flows that wait, and the lines of a dialogue about them."""

    def __init__(self, *flows: NewFlow) -> None:
        self.policed = Policed(flows=flows)
        self.lines: list[str] = []
        self.discarded = 0
        self.dialogue = Dialogue(self._request, self.lines.append, self._discard)

    def _request(self, request: dict[str, Any]) -> dict[str, Any]:
        flows = [
            {
                "id": one.id,
                "protocol": one.flow.protocol,
                "inbound": one.flow.inbound,
                "guest": {"address": "10.0.2.15", "port": one.flow.guest.port},
                "destination": {"address": "198.18.0.5", "port": one.flow.destination.port},
                "name": one.flow.name,
                "left": 27.6,
                "rule": "allow it",
            }
            for one in self.policed.flows
        ]
        if request["command"] == "pending":
            return {"flows": flows, "total": len(flows)}
        self.policed.answer(request["id"], Refuse())
        return {"id": request["id"], "rule": f"{request['command']} it" if request["always"] else None}

    def _discard(self) -> None:
        self.discarded += 1


def test_flows_are_shown_one_at_a_time() -> None:
    asked = Asked(NAMED, PING)
    asked.dialogue.look()
    asked.dialogue.look()
    assert asked.lines == [
        "tcp example.org:443 (198.18.0.5), 28 s left; [y]es, [n]o, [a]lways, ne[v]er, [s]kip, [q]uit"
    ]
    assert asked.dialogue.is_open()
    assert asked.dialogue.reply("y\n")
    assert not asked.dialogue.is_open()
    asked.dialogue.look()
    assert asked.lines[1].startswith("ping 198.18.0.5, 28 s left")


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("y", None),
        ("YES ", None),
        ("n", None),
        ("a", "new rule: allow it"),
        ("always", "new rule: allow it"),
        ("v", "new rule: refuse it"),
        ("never", "new rule: refuse it"),
    ],
)
def test_a_reply_decides(reply: str, said: str | None) -> None:
    asked = Asked(NAMED)
    asked.dialogue.look()
    assert asked.dialogue.reply(reply)
    assert [answer[0] for answer in asked.policed.answers] == [7]
    assert asked.lines[1:] == ([] if said is None else [said])


@pytest.mark.parametrize("reply", ["", "what", "yn"])
def test_another_reply_decides_nothing_and_is_asked_again(reply: str) -> None:
    asked = Asked(NAMED)
    asked.dialogue.look()
    assert asked.dialogue.reply(reply)
    assert asked.policed.answers == []
    assert asked.lines[1] == "give one of y, n, a, v, s, q; always means: allow it"
    assert asked.lines[2] == asked.lines[0]
    assert asked.dialogue.is_open()


def test_a_skipped_flow_waits_and_is_not_shown_again() -> None:
    asked = Asked(NAMED, PING)
    asked.dialogue.look()
    assert asked.dialogue.reply("s")
    for _ in range(3):
        asked.dialogue.look()
    assert [line.split()[0] for line in asked.lines] == ["tcp", "ping"]
    assert asked.policed.answers == []


def test_a_reply_never_counts_for_another_flow() -> None:
    """Lines for a flow whose time is over are discarded before the next one is shown."""
    asked = Asked(NAMED, PING)
    asked.dialogue.look()
    discarded = asked.discarded
    del asked.policed.flows[0]
    asked.dialogue.look()
    assert asked.lines[1] == "it does not wait any more"
    assert asked.discarded == discarded + 1
    assert asked.lines[2].startswith("ping")


def test_a_flow_that_is_over_while_the_reply_is_typed_is_reported() -> None:
    asked = Asked(NAMED)
    asked.dialogue.look()
    del asked.policed.flows[0]
    assert asked.dialogue.reply("y")
    assert "no flow 7 waits" in asked.lines[1]


def test_quit_ends_and_decides_nothing() -> None:
    asked = Asked(NAMED)
    asked.dialogue.look()
    assert not asked.dialogue.reply("q\n")
    assert asked.policed.answers == []


def test_names_of_the_guest_cannot_write_to_the_terminal() -> None:
    asked = Asked(NewFlow("tcp", GUEST, Endpoint("198.18.0.5", 443), False, "a\x1b[2J\n.example"))
    asked.dialogue.look()
    assert asked.lines[0].startswith(r"tcp a\x1b[2J\n.example:443 ")


def test_lines_of_a_pipe_are_read_one_by_one_and_stay() -> None:
    reading, writing = os.pipe()
    try:
        lines = Lines(reading)
        os.write(writing, b"y\nn\nhal")
        assert lines.read()
        assert lines.take() == "y"
        lines.discard()
        assert lines.has_line()
        assert lines.take() == "n"
        assert not lines.has_line()
        os.write(writing, b"f\n")
        assert lines.read()
        assert lines.take() == "half"
        os.close(writing)
        assert not lines.read()
    finally:
        os.close(reading)


def test_what_was_typed_on_a_terminal_is_discarded() -> None:
    master, slave = pty.openpty()
    try:
        lines = Lines(slave)
        os.write(master, b"y\ny\nye")
        assert select.select([slave], [], [], 10)[0]
        assert lines.read()
        lines.discard()
        assert not lines.has_line()
        os.write(master, b"n\n")
        assert lines.read()
        assert lines.take() == "n"
    finally:
        os.close(master)
        os.close(slave)


def _eventually(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@contextmanager
def served(path: Path, policed: Policed) -> Iterator[None]:
    """A control socket in a thread."""
    commands = ControlCommands()
    commands.policies.set_policed(policed)
    stop = threading.Event()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(socket.run)
            while not stop.is_set():
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()

    with closing(ControlSocket(str(path), commands.answer)) as socket:
        thread = threading.Thread(target=trio.run, args=(main,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(10)


def test_replies_from_a_pipe_are_carried_out(tmp_path: Path) -> None:
    policed, path = Policed(flows=(NAMED, PING)), tmp_path / "control"
    with served(path, policed):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "sansnet_cli", "ctl", str(path), "ask"],
            input="a\nn\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert _eventually(lambda: len(policed.answers) == 2)
    assert (done.returncode, done.stderr) == (0, "")
    assert "new rule: allow out tcp example.org:443" in done.stdout
    assert [(id, type(verdict).__name__) for id, verdict, _ in policed.answers] == [(7, "Allow"), (8, "Refuse")]


def test_without_a_sansnet_there_is_an_error(tmp_path: Path) -> None:
    line = [sys.executable, "-W", "error", "-m", "sansnet_cli", "ctl", str(tmp_path / "control"), "ask"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "give the path of the option -c" in done.stderr


def test_errors_of_the_dialogue_are_those_of_the_socket() -> None:
    def fail(request: dict[str, Any]) -> dict[str, Any]:
        raise SansnetError("gone")

    with pytest.raises(SansnetError, match="gone"):
        Dialogue(fail, print).look()
