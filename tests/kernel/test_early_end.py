"""Commands that end while sansnet still loads the rest of itself: `sansnet_cli.run.early_end`."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from typing import Final

import pytest

from tests.lab import SERVER4, USER, Lab

PROGRAM: Final = """
import sys, threading
import sansnet_cli.main, sansnet_cli.run.start as start
load, wait_end = start.load, start.wait_end
decided = threading.Event()
def load_late(options, *also):
    if start.is_plain(options):
        decided.wait(10)
    load(options, *also)
def wait(*arguments):
    status, link = wait_end(*arguments)
    decided.set()
    sys.stderr.write(f"{'needed' if status is None else 'not needed'}: the rest\\n")
    return status, link
start.load, start.wait_end = load_late, wait
sys.argv = ["sansnet", "run", *sys.argv[1:]]
sansnet_cli.main.main()
"""
"""`sansnet run` that loads the rest when the command has ended, and says whether it was needed."""

NOT_NEEDED: Final = "not needed: the rest\n"
NEEDED: Final = "needed: the rest\n"


@pytest.fixture(autouse=True)
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the laboratory run it in place of `sansnet run`."""
    monkeypatch.setattr(sys.modules["tests.lab.laboratory"], "RUN_SANSNET", (sys.executable, "-c", PROGRAM))


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
@pytest.mark.parametrize(("command", "status"), [("true", 0), ("exit 3", 3), ("kill -TERM $$", 143)])
def test_the_status_is_that_of_the_command(lab: Lab, user: int | None, command: str, status: int) -> None:
    done = lab.sansnet([], ["sh", "-c", command], user=user)
    assert (done.returncode, done.stderr) == (status, NOT_NEEDED)


def test_a_command_that_is_not_found(lab: Lab) -> None:
    done = lab.sansnet([], ["no-such-command"])
    assert done.returncode == 127
    assert done.stderr == "sansnet: no-such-command: command not found; check the name and PATH\n"


SENDER: Final = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'{}', ('{}', 8400))"


FAREWELL: Final = """\
bye() {{ {} -c "{}"; exit; }}
(trap bye TERM; while :; do sleep 0.01; done) &
sleep 0.1
exit 5
"""


def test_the_last_datagram_arrives(lab: Lab) -> None:
    """Its first frame, which asks for the gateway's Ethernet address, is read before the rest is loaded."""
    with closing(lab.upstream.datagram(SERVER4, 8400)) as receiver:
        receiver.settimeout(10)
        done = lab.sansnet([], [sys.executable, "-c", SENDER.format("late", SERVER4)])
        assert (done.returncode, done.stderr) == (0, NEEDED)
        assert receiver.recv(10) == b"late"


def test_processes_that_are_left_have_a_network(lab: Lab) -> None:
    script = FAREWELL.format(sys.executable, SENDER.format("bye", SERVER4))
    with closing(lab.upstream.datagram(SERVER4, 8400)) as receiver:
        receiver.settimeout(10)
        done = lab.sansnet([], ["sh", "-c", script])
        assert (done.returncode, done.stderr.removesuffix("Terminated\n")) == (5, NEEDED)  # the shell's word
        assert receiver.recv(10) == b"bye"


@pytest.mark.parametrize("options", [["-v"], ["-t", "8401"], ["--allow", "192.0.2.1:53"]])
def test_what_options_ask_for_is_done(lab: Lab, options: list[str]) -> None:
    done = lab.sansnet(options, ["true"])
    assert done.returncode == 0
    assert "the rest" not in done.stderr


def test_signals_reach_the_command_meanwhile(lab: Lab) -> None:
    command = lab.sansnet_command([], ["sh", "-c", "trap 'exit 9' USR1; echo; read x"], user=None, before="")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        lab.host.shell(f"kill -USR1 {process.pid}")
        assert process.wait(10) == 9
        assert process.stderr.read() == NOT_NEEDED.encode()
