"""`sansnet ctl` and a sansnet that runs: ports come and go, and who uses them is seen."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.lab import HOST4, USER, Lab, Namespace, eventually
from tests.lab.machines import bridged, configured, machine, serving

PORT = 18181
OUTSIDE = 28181


def ctl(lab: Lab, path: Path, *arguments: str, user: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run `sansnet ctl` in the host."""
    line = [sys.executable, "-W", "error", "-m", "sansnet_cli", "ctl", str(path), *arguments]
    if user is not None:
        line = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--", *line]
    return lab.host.run(*line, check=False)


def asked(lab: Lab, path: Path, *arguments: str, user: int | None = None) -> Any:
    """The answer, as JSON."""
    done = ctl(lab, path, *arguments, "--json", user=user)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def listening(guest: Namespace) -> socket.socket:
    """A server in the guest."""

    def make() -> socket.socket:
        made = socket.create_server(("0.0.0.0", PORT))
        made.settimeout(5)
        return made

    return guest.call(make)


def connected(upstream: Namespace) -> socket.socket:
    """A client outside."""
    return upstream.call(lambda: socket.create_connection((HOST4, OUTSIDE), timeout=5))


@pytest.fixture
def path(lab: Lab) -> Path:
    """A path for the control socket, in a directory where every user may create files."""
    directory = Path(tempfile.mkdtemp(dir=lab.directory))
    directory.chmod(0o777)
    return directory / "control"


def test_a_port_is_forwarded_on_request_and_no_more(lab: Lab, path: Path) -> None:
    with lab.guest("-c", str(path), user=USER) as guest, closing(listening(guest)) as server:
        assert asked(lab, path, "list", user=USER) == {"forwards": []}
        with pytest.raises(ConnectionRefusedError):
            connected(lab.upstream)

        asked(lab, path, "add", "-t", f"{OUTSIDE}:{PORT}", user=USER)
        with closing(connected(lab.upstream)) as client:
            accepted, peer = server.accept()
            with closing(accepted):
                assert peer == client.getsockname()
                client.sendall(b"question")
                assert accepted.recv(100) == b"question"
                [flow] = asked(lab, path, "flows", user=USER)["flows"]
                assert (flow["protocol"], flow["inbound"], flow["state"]) == ("tcp", True, "ESTABLISHED")
                assert flow["remote"] == {"address": peer[0], "port": peer[1]}
                assert (flow["guest"], flow["received"]) == ({"address": HOST4, "port": PORT}, 8)

                asked(lab, path, "delete", "-t", f"{OUTSIDE}:{PORT}", user=USER)
                with pytest.raises(ConnectionRefusedError):
                    connected(lab.upstream)
                accepted.sendall(b"answer")
                assert client.recv(100) == b"answer", "what is connected stays so"
        assert ctl(lab, path, "list", user=USER).stdout == "no ports are forwarded\n"
    assert not path.exists()


def test_a_port_that_cannot_be_had_is_one_sentence_and_changes_nothing(lab: Lab, path: Path) -> None:
    with lab.guest("-c", str(path), "-t", f"{OUTSIDE}:{PORT}"):
        before = asked(lab, path, "list")
        with closing(lab.host.call(lambda: socket.create_server((HOST4, OUTSIDE + 1)))):
            done = ctl(lab, path, "add", "-t", f"{OUTSIDE + 2}", "-t", f"{OUTSIDE + 1}")
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert done.stderr.startswith("sansnet: ")
        assert str(OUTSIDE + 1) in done.stderr
        assert asked(lab, path, "list") == before


def test_only_the_owner_is_let_in(lab: Lab, path: Path) -> None:
    with lab.guest("-c", str(path)):
        assert path.stat().st_mode & 0o777 == 0o600
        done = ctl(lab, path, "clear", user=USER)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert "use it as the user who started sansnet, or as root" in done.stderr
        path.chmod(0o666)
        done = ctl(lab, path, "clear", user=USER)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert "only the user who runs sansnet, or root" in done.stderr


def test_a_path_that_cannot_be_had_lets_no_command_begin(lab: Lab, path: Path) -> None:
    done = lab.sansnet(["-c", str(path / "nowhere")], ["echo", "begun"])
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert f"cannot listen on {path / 'nowhere'}" in done.stderr


def test_forwards_of_machines_outlive_each(lab: Lab, path: Path) -> None:
    with serving(lab, "-c", str(path)) as server:
        assert asked(lab, path, "counters")["guest"] is False
        asked(lab, path, "add", "-t", f"{OUTSIDE}:{PORT}")
        assert "machine" in ctl(lab, path, "add", "-T", "80").stderr
        for _ in range(2):
            with machine() as guest, bridged(guest, server.path):
                configured(guest, ipv6=False)
                with closing(listening(guest)) as listener, closing(connected(lab.upstream)) as client:
                    accepted, peer = listener.accept()
                    accepted.close()
                    assert peer == client.getsockname()
                counters = asked(lab, path, "counters")
                assert counters["guest"]
                assert counters["driver"]["frames_received"] > 0
            assert eventually(lambda: asked(lab, path, "counters")["guest"] is False)
        assert server.end() == 0
