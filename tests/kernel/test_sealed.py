"""Confined commands import nothing, open no file by its name and start no process (`tests/lab/sealed.py`).

The kernel would refuse it or end the process; these tests show a fault with its place in the program.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.kernel.test_control import asked, ctl
from tests.lab import SERVER4, SERVER6, USER, DnsServer, Echo, Lab, Namespace, eventually, served
from tests.lab.callers import ended
from tests.lab.machines import bridged, configured, machine, serving
from tests.lab.namespaces import held_namespace, running

SCRIPT: Final = Path(__file__).parents[1] / "lab" / "sealed.py"
POLICY: Final = """\
default = "ask"
[[rule]]
label = "names"
action = "allow"
to = ["www.lab.example", "b\u00fccher.lab.example"]
[[rule]]
action = "allow"
protocol = ["udp", "ping"]
to = ["203.0.113.0/24", "2001:db8:2::/64"]
"""


@pytest.fixture
def place(lab: Lab) -> Iterator[Path]:
    """A directory in which any user may make files."""
    with tempfile.TemporaryDirectory(dir=lab.directory) as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.fixture
def line(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The beginning of a command line that is watched, also of those of the laboratory; nothing may be noticed."""
    log = place / "sealed.log"
    log.touch()
    log.chmod(0o666)
    words = [sys.executable, "-W", "error", str(SCRIPT), str(log)]
    for name in ("laboratory", "machines"):
        monkeypatch.setattr(sys.modules[f"tests.lab.{name}"], "RUN_SANSNET", (*words, "sansnet", "run"))
    yield words
    assert log.read_text() == "confined\n"


def exercised(lab: Lab, guest: Namespace) -> None:
    """TCP, UDP and ping of both families, answers and errors."""
    with (
        served(lab.upstream.listen("0.0.0.0", 8300), Echo.stream),
        served(lab.upstream.listen("::", 8301), Echo.stream),
        Echo.datagrams(lab.upstream.datagram(SERVER4, 8302)),
        Echo.datagrams(lab.upstream.datagram(SERVER6, 8302)),
    ):
        for server, port in ((SERVER4, 8300), (SERVER6, 8301)):
            with guest.connect(server, port) as stream:
                stream.sendall(b"x")
                assert stream.recv(1) == b"x"
            with guest.datagram("::" if ":" in server else "0.0.0.0") as datagrams:
                datagrams.sendto(b"x", (server, 8302))
                assert datagrams.recv(10) == b"x"
            guest.run("ping", "-c1", "-W5", server)
            with pytest.raises(ConnectionRefusedError):
                guest.connect(server, 9)


def opened(namespace: Namespace, port: int) -> bool:
    """Whether a port is forwarded."""
    return bool(namespace.shell(f"ss --no-header --listening --tcp --numeric 'sport = {port}'").stdout)


def controlled(lab: Lab, path: Path, *, inbound: str = "-t") -> None:
    """All that clients of the control socket may ask for."""
    for command in ("list", "flows", "counters", "policy", "pending", "audit", "impair"):
        asked(lab, path, command)
    for change in ("add", "delete"):
        asked(lab, path, change, inbound, "8390")
    assert ctl(lab, path, "add", "-t", "%nosuch0/8391").returncode == 1
    asked(lab, path, "impair", "--delay", "1ms", "--loss", "0%")
    asked(lab, path, "impair", "none")
    asked(lab, path, "policy", "add", "allow tcp b\u00fccher.lab.example:443")
    asked(lab, path, "policy", "remove", "allow tcp b\u00fccher.lab.example:443")
    assert ctl(lab, path, "policy", "add", "nonsense").returncode == 1
    policy = lab.directory / "sealed.toml"
    policy.write_text(POLICY)
    asked(lab, path, "policy", "replace", str(policy))


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
def test_run(lab: Lab, line: list[str], place: Path, user: int | None) -> None:
    files = ["--audit", str(place / "audit"), "--record", str(place / "record"), "-p", str(place / "capture")]
    ports = ["-t", "auto", "-T", "auto", "-t", "8380:80", "-u", "8380:80"]
    control = place / "control"
    with lab.guest(*files, *ports, "-c", str(control), user=user, warning="reached 2 addresses") as guest:
        exercised(lab, guest)
        with guest.listen("0.0.0.0", 8310), lab.host.listen("127.0.0.1", 7310):
            assert eventually(lambda: opened(lab.host, 8310) and opened(guest, 7310))
            lab.host.connect("127.0.0.1", 8310).close()
            guest.connect("127.0.0.1", 7310).close()
        assert eventually(lambda: not opened(lab.host, 8310) and not opened(guest, 7310))
        controlled(lab, control, inbound="-T")
        with served(lab.upstream.listen("0.0.0.0", 8320), Echo.stream):
            for answer in (["allow", "--always"], ["refuse"]):
                with closing(guest.open_socket(2, 1)) as waiting:
                    waiting.setblocking(False)
                    waiting.connect_ex((SERVER4, 8320 if answer[1:] else 8321))
                    assert eventually(lambda: asked(lab, control, "pending")["total"] == 1)
                    [flow] = asked(lab, control, "pending")["flows"]
                    asked(lab, control, answer[0], str(flow["id"]), *answer[1:])


def test_run_of_a_command_alone(lab: Lab, line: list[str]) -> None:
    done = lab.sansnet([], ["ping", "-c1", "-W5", SERVER4])
    assert (done.returncode, done.stderr) == (0, "")


def test_run_under_a_policy_that_is_learnt(lab: Lab, line: list[str], place: Path, dns: DnsServer) -> None:
    learnt = place / "learnt"
    with dns.on(lab.upstream, SERVER4), lab.guest("--learn", str(learnt), user=USER, warning="reached") as guest:
        guest.run("dig", "+short", "www.lab.example")
        guest.run("ping", "-c1", "-W5", SERVER4)
    assert "www.lab.example" in learnt.read_text()


@contextmanager
def attached(lab: Lab, line: list[str], *options: str) -> Iterator[subprocess.Popen[str]]:
    command = lab.host.command("env", f"HOME={lab.directory}", *line, "sansnet", "attach", *options)
    with running(command, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("sansnet: attached to ")
        yield process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_attach(lab: Lab, line: list[str], place: Path, number: signal.Signals) -> None:
    control = place / "control"
    with (
        held_namespace() as guest,
        attached(lab, line, "-t", "auto", "-T", "auto", "-c", str(control), str(guest.pid)) as process,
    ):
        exercised(lab, guest)
        with guest.listen("0.0.0.0", 8310):
            assert eventually(lambda: opened(lab.host, 8310))
        controlled(lab, control, inbound="-T")
        process.send_signal(number)
        assert process.wait(10) == 0


def test_attach_ends_with_the_namespace(lab: Lab, line: list[str]) -> None:
    with held_namespace() as guest, running(guest.command("sleep", "60")) as sleeper:
        assert eventually(lambda: Path(f"/proc/{sleeper.pid}/comm").read_text() == "sleep\n")
        with attached(lab, line, str(sleeper.pid)) as process:
            guest.run("ping", "-c1", "-W5", SERVER4)
            sleeper.terminate()
            sleeper.wait()
            assert process.wait(10) == 0


def test_serve(lab: Lab, line: list[str], place: Path) -> None:
    control = place / "control"
    options = ["-t", "8380:80", "-p", str(place / "capture"), "--audit", str(place / "audit"), "-c", str(control)]
    with serving(lab, *options) as server:
        for number in range(2):
            with machine() as guest, bridged(guest, server.path):
                configured(guest)
                exercised(lab, guest)
                if number:
                    controlled(lab, control)
        assert server.end() == 0


@pytest.mark.parametrize("program", ["passt", "pasta"])
def test_compatible_commands_of_root(lab: Lab, line: list[str], place: Path, program: str) -> None:
    """Both with another user: `passt` as nobody, who may not read the files of the log."""
    pid, path = place / "pid", place / "socket"
    words = ["-p", str(place / "capture"), "-l", str(place / "log"), "-P", str(pid)]

    def call(*words: str) -> None:
        done = lab.host.run("env", "LC_ALL=C.UTF-8", *line, program, "-q", *words)
        assert (done.stdout, done.stderr) == ("", "")

    if program == "passt":
        call(*words, "-s", str(path))
        with ended(pid):
            for _ in range(2):
                with machine() as guest, bridged(guest, path):
                    configured(guest)
                    exercised(lab, guest)
    else:
        with held_namespace() as guest:
            call(*words, "--runas", "65534", "--config-net", "-t", "auto", "-T", "auto", str(guest.pid))
            with ended(pid):
                exercised(lab, guest)
