"""Mistakes in the core of a real command: one flow of many is lost, one line says so, and the file can be replayed."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from sansnet_core.recording import Replay, ReplayDifference
from tests.lab import SERVER4, Echo, Lab, eventually, served
from tests.lab.machines import bridged, configured, machine
from tests.lab.namespaces import running

pytestmark = pytest.mark.interpreted

PORT: Final = 8125
NOBODY: Final = 65534

BROKEN: Final = """
import sys
from sansnet_core.proto.tcp.flow import TcpFlow
from sansnet_core.proto.tcp.prediction import Prediction
deliver = TcpFlow.deliver
def wrong(self, ready, taken, kept):
    if any(b"BOOM" in bytes(piece) for piece in ready):
        raise ZeroDivisionError("injected")
    deliver(self, ready, taken, kept)
TcpFlow.deliver = wrong
Prediction.take = lambda *_: False  # the short cut delivers by itself
from sansnet_cli.main import main
main()
"""
"""A command whose core cannot handle certain data of a guest."""

MANY: Final = f"""
import socket
streams = [socket.create_connection(({SERVER4!r}, {PORT})) for _ in range(50)]
def answered(stream):
    stream.sendall(b"hello")
    return stream.recv(5, socket.MSG_WAITALL) == b"hello"
assert all(map(answered, streams))
victim = streams.pop(20)
victim.sendall(b"BOOM")
try:
    print("read", victim.recv(1))
except OSError as error:
    print("victim:", error.strerror)
assert all(map(answered, streams))
assert answered(socket.create_connection(({SERVER4!r}, {PORT})))
print("others: all")
"""
"""A guest with many connections, one of which sends that data."""

AGAIN: Final = f"""
import socket, time
for _ in range(100):
    with socket.create_connection(({SERVER4!r}, {PORT}), 10) as stream:
        stream.sendall(b"BOOM")
        try:
            stream.recv(1)
        except ConnectionError:
            pass
time.sleep(60)
"""
"""A guest that sends it again and again."""


@pytest.fixture(scope="module", autouse=True)
def echo(lab: Lab) -> Iterator[None]:
    with served(lab.upstream.listen(SERVER4, PORT), Echo.stream):
        yield


@pytest.fixture
def place(lab: Lab) -> Iterator[Path]:
    """A directory for the command and its files, which everybody may use."""
    with tempfile.TemporaryDirectory(dir=lab.directory) as name:
        path = Path(name)
        path.chmod(0o1777)
        (path / "sansnet").write_text(BROKEN)
        yield path


def command(lab: Lab, place: Path, *words: str, state: str = "state") -> list[str]:
    return lab.host.command(
        "env",
        f"XDG_STATE_HOME={place / state}",
        f"TMPDIR={place}",
        "LC_ALL=C.UTF-8",
        *[sys.executable, str(place / "sansnet"), *words],
    )


def files(place: Path) -> list[Path]:
    return sorted(place.rglob("sansnet-failure-*.rec"))


def test_one_flow_is_lost_and_the_command_goes_on(lab: Lab, place: Path) -> None:
    line = command(lab, place, "run", "--", sys.executable, "-c", MANY)
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    (path,) = files(place)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] in ("victim: Connection reset by peer", "read b''")
    assert done.stdout.splitlines()[1] == "others: all"
    assert re.fullmatch(
        rf"sansnet: a mistake in sansnet ended tcp \S+ to {SERVER4}:{PORT} \(ZeroDivisionError in \S+\); the network "
        rf"goes on; please report it with the file {path}, which has the guest's last packets with all their data\n",
        done.stderr,
    )
    assert path.parent == place / "state" / "sansnet"


def test_the_file_shows_where_it_happened(lab: Lab, place: Path) -> None:
    """The corrected core does something else there, and the same before."""
    line = command(lab, place, "run", "--", sys.executable, "-c", MANY)
    subprocess.run(line, capture_output=True, timeout=60, check=True)
    (path,) = files(place)
    with pytest.raises(ReplayDifference, match="ZeroDivisionError") as caught:
        Replay(path.read_bytes()).run()
    shown = subprocess.run(
        [sys.executable, str(place / "sansnet"), "replay", str(path), "--show"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (shown.returncode, shown.stderr) == (0, "")
    assert f"{caught.value.number} " in shown.stdout
    assert "failure  ZeroDivisionError: injected" in shown.stdout


def test_a_recording_has_the_failure_and_all_that_follows(lab: Lab, place: Path) -> None:
    path = place / "net.rec"
    line = command(lab, place, "run", "--record", str(path), "--", sys.executable, "-c", MANY)
    subprocess.run(line, capture_output=True, timeout=60, check=True)
    done = subprocess.run(
        [sys.executable, str(place / "sansnet"), "replay", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.endswith("all outputs are the same\n"), done.stderr


def test_many_mistakes_end_the_command_with_one_sentence(lab: Lab, place: Path) -> None:
    line = command(lab, place, "run", "--", sys.executable, "-c", AGAIN)
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        "sansnet: the guest has lost its network, so its command was ended: a mistake in sansnet ended the network ("
    )
    assert len(files(place)) <= 3
    assert len(done.stderr.splitlines()) <= 11


def test_a_machine_can_connect_again_after_many_mistakes(lab: Lab, place: Path) -> None:
    path = place / "socket"
    with (
        tempfile.TemporaryFile("w+") as errors,
        running(command(lab, place, "serve", "--socket", str(path)), stderr=errors) as process,
    ):

        def said() -> str:
            errors.seek(0)
            return errors.read()

        assert eventually(lambda: "waiting for a guest" in said())
        with machine() as guest, bridged(guest, path):
            configured(guest)
            with running(guest.command(sys.executable, "-c", AGAIN), stderr=subprocess.DEVNULL):
                assert eventually(lambda: "the guest is disconnected: a mistake in sansnet ended" in said(), seconds=30)
        with machine() as guest, bridged(guest, path):
            configured(guest)
            with guest.connect(SERVER4, PORT) as stream:
                stream.sendall(b"hello")
                assert stream.recv(5) == b"hello"
        assert process.poll() is None
        assert "Traceback" not in said()


def test_passt_of_root_writes_the_file_as_nobody(lab: Lab, place: Path) -> None:
    """In its new user namespace all files seem to belong to nobody, so the permissions decide."""
    path, pid = place / "socket", place / "pid"
    (place / "passt").symlink_to(place / "sansnet")
    line = command(lab, place, "passt", "--foreground", "--socket", str(path), "--pid", str(pid))
    with tempfile.TemporaryFile("w+") as errors, running(line, stderr=errors):

        def said() -> str:
            errors.seek(0)
            return errors.read()

        assert eventually(lambda: pid.exists() and bool(pid.read_text()))
        with machine() as guest, bridged(guest, path):
            configured(guest)
            guest.run(sys.executable, "-c", MANY)
            assert eventually(lambda: "the network goes on" in said())
        [found] = files(place)
        assert (found.stat().st_uid, found.stat().st_mode & 0o777) == (NOBODY, 0o600)
        assert str(found) in said()
