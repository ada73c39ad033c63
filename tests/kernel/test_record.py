"""Recordings of real sessions of each command: a replay makes the same outputs, whatever the session was."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.kernel.test_attach import attached
from tests.kernel.test_policy_options import Proxy
from tests.lab import GATEWAY4, HOST4, SERVER4, SERVER6, UNREACHABLE4, DnsServer, Echo, Lab, eventually, served
from tests.lab.callers import Caller, ended
from tests.lab.machines import bridged, configured, machine, serving
from tests.lab.namespaces import held_namespace

PORT: Final = 8123
OTHER: Final = 8124
NAME: Final = "www.lab.example"
PUBLIC4: Final = "20.0.0.10"
"""An address of upstream's that names may have under a policy."""

TALK: Final = """
import socket, sys, threading
def talk(family, address, size):
    with socket.socket(family, socket.SOCK_STREAM) as stream:
        stream.connect((address, {port}))
        sender = threading.Thread(target=lambda: (stream.sendall(bytes(size)), stream.shutdown(socket.SHUT_WR)))
        sender.start()
        got = 0
        while data := stream.recv(1 << 16):
            got += len(data)
        sender.join()
        assert got == size, got
def send(family, address):
    with socket.socket(family, socket.SOCK_DGRAM) as datagrams:
        datagrams.settimeout(10)
        datagrams.connect((address, {port}))
        for size in (1, 1000, 1400):
            datagrams.send(bytes(size))
            assert len(datagrams.recv(1 << 16)) == size
"""
"""Functions of the guest: a stream there and back, and datagrams."""


def python(*lines: str) -> list[str]:
    """A command of the guest."""
    return [sys.executable, "-c", TALK.format(port=PORT) + "\n".join(lines)]


EVERYTHING: Final = python(
    f"talk(socket.AF_INET, {SERVER4!r}, 3_000_000)",
    f"talk(socket.AF_INET6, {SERVER6!r}, 300_000)",
    f"send(socket.AF_INET, {SERVER4!r})",
    f"send(socket.AF_INET6, {SERVER6!r})",
    "import subprocess",
    f"assert subprocess.run(['ping', '-c2', '-i0.2', '-s3000', {SERVER4!r}]).returncode == 0",
    f"assert subprocess.run(['ping', '-c1', {SERVER6!r}]).returncode == 0",
    f"assert subprocess.run(['ping', '-c1', '-W1', {UNREACHABLE4!r}]).returncode != 0",
    "with socket.socket() as closed:",
    f"    assert closed.connect_ex(({SERVER4!r}, 1))",
)
ASK: Final = python(f"print(socket.getaddrinfo({NAME!r}, {PORT}, type=socket.SOCK_STREAM))")


@pytest.fixture(scope="module")
def world(lab: Lab) -> Iterator[Lab]:
    """The servers."""
    dns = DnsServer({(NAME, "A"): [PUBLIC4]})
    with ExitStack() as stack:
        lab.upstream.run("ip", "address", "add", f"{PUBLIC4}/32", "dev", "lo")
        stack.callback(lab.upstream.run, "ip", "address", "delete", f"{PUBLIC4}/32", "dev", "lo")
        stack.enter_context(dns.on(lab.upstream, SERVER4))
        stack.enter_context(served(lab.upstream.listen(PUBLIC4, PORT), Echo.stream))
        for address in (SERVER4, SERVER6):
            for port in (PORT, OTHER):
                stack.enter_context(served(lab.upstream.listen(address, port), Echo.stream))
            stack.enter_context(Echo.datagrams(lab.upstream.datagram(address, PORT)))
        yield lab


@pytest.fixture
def place(lab: Lab) -> Iterator[Path]:
    """A directory for recordings."""
    with tempfile.TemporaryDirectory(dir=lab.directory) as name:
        yield Path(name)


def replay(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `sansnet replay` outside of the laboratory."""
    command = [sys.executable, "-W", "error", "-m", "sansnet_cli", "replay", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def same(path: Path) -> int:
    """Check that a replay makes the same outputs; returns the number of inputs."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    done = replay(path)
    found = re.fullmatch(
        rf"{re.escape(str(path))}: (\d+) inputs over [\d.]+ s; all outputs are the same\n", done.stdout
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert found is not None, done.stdout
    return int(found[1])


def test_a_session_of_run(world: Lab, place: Path) -> None:
    path = place / "net.rec"
    done = world.sansnet(["--record", str(path)], EVERYTHING)
    assert (done.returncode, done.stderr) == (0, "")
    assert same(path) > 60
    shown = replay(path, "--show").stdout
    for word in (SERVER4, SERVER6, "Flags [S]", "UDP", "ICMP6", "OpenStream", "echo_failed"):
        assert word in shown


@pytest.mark.parametrize(
    ("options", "commands"),
    [
        (
            ["--delay", "5ms", "--loss", "2%", "--corrupt", "1%"],
            [python(f"talk(socket.AF_INET, {SERVER4!r}, 300_000)")],
        ),
        (["--allow", f"{NAME}:{PORT}"], [python(f"talk(socket.AF_INET, {NAME!r}, 100_000)")]),
        (
            ["--allow", f"tcp {SERVER4}:{PORT}", "--refuse", "udp"],
            [
                python(f"talk(socket.AF_INET, {SERVER4!r}, 100_000)"),
                python("try:", f"    send(socket.AF_INET, {SERVER4!r})", "except OSError: pass"),
            ],
        ),
        (["-m", "1500"], [python(f"talk(socket.AF_INET, {SERVER4!r}, 5_000_000)")]),
        (["--map-host-loopback", "169.254.1.1"], [["ping", "-c1", "169.254.1.1"]]),
        (["-4", "--hostname", "visitor"], [python(f"send(socket.AF_INET, {SERVER4!r})")]),
        (["--policy", "{policy}", "--audit", "{audit}"], [python(f"talk(socket.AF_INET, {NAME!r}, 10)")]),
    ],
    ids=["bad-network", "names", "rules", "small-mtu", "loopback", "one-family", "audit"],
)
def test_a_session_with_options(world: Lab, place: Path, options: list[str], commands: list[list[str]]) -> None:
    policy = place / "policy.toml"
    policy.write_text(f'default = "refuse"\nrules = ["allow tcp {NAME}:{PORT}"]\n')
    filled = [word.format(policy=policy, audit=place / "audit.jsonl") for word in options]
    for command in commands:
        done = world.sansnet(["--record", str(place / "net.rec"), *filled], command)
        assert done.returncode == 0, done.stderr
        same(place / "net.rec")


def test_a_session_with_questions_for_names(world: Lab, place: Path) -> None:
    for options in ([], ["--allow", NAME]):
        done = world.sansnet(["--record", str(place / "net.rec"), *options], ASK)
        assert done.returncode == 0, done.stderr
        same(place / "net.rec")


def test_a_session_with_a_proxy(world: Lab, place: Path) -> None:
    proxy = Proxy(world)
    with served(world.upstream.listen(SERVER4), proxy.serve) as port:
        options = ["--record", str(place / "net.rec"), "--proxy", f"socks5://{SERVER4}:{port}"]
        world.sansnet(options, python(f"talk(socket.AF_INET, {SERVER4!r}, 100_000)"))
    assert proxy.asked == [(SERVER4, PORT)]
    same(place / "net.rec")


def test_a_session_with_forwarded_ports(world: Lab, place: Path) -> None:
    """In both ways: by frames from upstream, and by the loopback path, which has none."""
    path = place / "net.rec"
    with world.guest("--record", str(path), "-t", "9000", "-u", "9000", "-T", "9001") as guest:
        for host, inside in ((HOST4, "0.0.0.0"), ("127.0.0.1", "0.0.0.0")):
            client = world.upstream if host == HOST4 else world.host
            with served(guest.listen(inside, 9000), Echo.stream), client.connect(host, 9000) as stream:
                stream.sendall(b"hello")
                assert stream.recv(5) == b"hello"
        with Echo.datagrams(guest.datagram("0.0.0.0", 9000)), world.upstream.datagram("0.0.0.0") as datagrams:
            datagrams.settimeout(20)
            datagrams.sendto(b"hello", (HOST4, 9000))
            assert datagrams.recv(100) == b"hello"
        with served(world.host.listen("127.0.0.1", 9001), Echo.stream), guest.connect("127.0.0.1", 9001) as stream:
            stream.sendall(b"hello")
            assert stream.recv(5) == b"hello"
    same(path)


def test_a_guest_whose_rules_change(world: Lab, place: Path) -> None:
    path, control = place / "net.rec", place / "control"
    with (
        world.guest("--record", str(path), "-c", str(control), warning="reached 1 address, refused 1") as guest,
        guest.connect(SERVER4, PORT) as stream,
    ):
        for word in ("refuse", "allow"):
            line = [sys.executable, "-m", "sansnet_cli", "ctl", str(control), "policy", "add"]
            world.host.run(*line, f"{word} tcp {SERVER4}:{PORT}")
            with guest.open_socket(socket.AF_INET, socket.SOCK_STREAM) as again:
                assert bool(again.connect_ex((SERVER4, PORT))) == (word == "refuse")
        with pytest.raises(ConnectionResetError):
            stream.recv(1)
    same(path)


def test_a_session_of_attach(world: Lab, place: Path) -> None:
    path = place / "net.rec"
    with held_namespace() as visited:
        world.host.run("true")
        with attached(world, "--record", str(path), str(visited.pid)) as ours:
            visited.run(*EVERYTHING)
            ours.process.send_signal(signal.SIGTERM)
            assert ours.ends() == (0, "")
    assert same(path) > 60


def test_each_machine_of_serve_begins_a_new_file(world: Lab, place: Path) -> None:
    path = place / "net.rec"
    counts: list[int] = []
    with serving(world, "--record", str(path)) as server:
        for size in (1000, 1_000_000):
            with machine() as guest, bridged(guest, server.path):
                configured(guest)
                guest.run(*python(f"talk(socket.AF_INET, {SERVER4!r}, {size})"))
            assert eventually(lambda: server.said().count("disconnected") == len(counts) + 1)
            counts.append(same(path))
        assert server.end() == 0
    assert [same(Path(f"{path}.1")), same(path)] == counts
    assert counts[0] < counts[1]


@pytest.mark.parametrize("by", ["option", "environment"])
def test_a_session_of_pasta(world: Lab, place: Path, by: str) -> None:
    path = place / "net.rec"
    options = ["--record", str(path)] if by == "option" else []
    line = Caller(world, place).command("pasta", "--config-net", *options, "--", *EVERYTHING)
    if by == "environment":
        line.insert(line.index("env") + 1, f"SANSNET_RECORD={path}")
    done = subprocess.run(line, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert same(path) > 60


def test_passt_records_although_it_becomes_nobody(world: Lab, place: Path) -> None:
    path, socket_, pid = (place / name for name in ("net.rec", "socket", "pid"))
    words = ["--one-off", "--socket", str(socket_), "--pid", str(pid), "--record", str(path)]
    assert Caller(world, place).call("passt", *words).status == 0
    with ended(pid) as daemon:
        assert Path(f"/proc/{daemon}/status").read_text().count("\t65534") >= 1
        with machine() as guest, bridged(guest, socket_):
            configured(guest)
            guest.run(*python(f"talk(socket.AF_INET, {SERVER4!r}, 100_000)"))
    same(path)


def test_a_directory_gets_a_file_for_each_guest(world: Lab, place: Path) -> None:
    for _ in range(2):
        assert world.sansnet(["--record", str(place)], ["ping", "-c1", GATEWAY4]).returncode == 0
    found = list(place.iterdir())
    assert len(found) == 2
    for path in found:
        same(path)


def test_a_long_session_stays_within_its_size_and_both_files_can_be_replayed(world: Lab, place: Path) -> None:
    """The second one begins with the state of connections that are open."""
    path = place / "net.rec"
    command = python(
        f"threads = [threading.Thread(target=talk, args=(socket.AF_INET, {SERVER4!r}, 3_000_000)) for _ in range(4)]",
        "[thread.start() for thread in threads]",
        "[thread.join() for thread in threads]",
    )
    done = world.sansnet(["--record", str(path), "--record-size", "4M"], command)
    assert (done.returncode, done.stderr) == (0, "")
    sizes = [each.stat().st_size for each in place.iterdir()]
    assert len(sizes) == 2
    assert sum(sizes) < 24 << 20  # states may be larger than the files
    same(path)
    same(Path(f"{path}.1"))


def test_a_recording_of_a_process_that_was_killed(world: Lab, place: Path) -> None:
    path = place / "net.rec"
    with world.guest("--record", str(path)) as guest, guest.connect(SERVER4, PORT) as stream:
        stream.sendall(b"hello")
        assert stream.recv(5) == b"hello"
        assert eventually(lambda: b"hello" in path.read_bytes())
        copy = place / "copy.rec"
        copy.write_bytes(path.read_bytes())  # what is there after SIGKILL
        copy.chmod(0o600)
    same(copy)


def test_a_full_disk_ends_only_the_recording(world: Lab, place: Path) -> None:
    before = f"mount -t tmpfs -o size=300k tmpfs {place}"
    command = python(f"talk(socket.AF_INET, {SERVER4!r}, 3_000_000)")
    keep = f"{world.directory}/kept.rec"
    done = world.sansnet(
        ["--record", str(place / "net.rec")],
        ["sh", "-ec", f'{subprocess.list2cmdline(["true"])}; exec "$@"', "sh", *command],
        before=f"{before}; (sleep 8; cp {place}/net.rec {keep}) &",
    )
    assert done.returncode == 0
    assert done.stderr == (
        "sansnet: the recording ends here (No space left on device); make room for it, or record to another file\n"
    )
    assert eventually(lambda: os.path.exists(keep), seconds=20)
    same(Path(keep))


def test_a_file_that_cannot_be_written_is_an_error_before_the_command_begins(world: Lab, place: Path) -> None:
    done = world.sansnet(["--record", f"{place}/missing/net.rec"], ["touch", str(place / "begun")])
    assert done.returncode == 1
    assert done.stderr == (
        f"sansnet: the file {place}/missing/net.rec of --record cannot be written (No such file or directory); "
        "give another one\n"
    )
    assert not (place / "begun").exists()


def test_a_second_command_does_not_take_the_file(world: Lab, place: Path) -> None:
    path = place / "net.rec"
    with world.guest("--record", str(path)):
        done = world.sansnet(["--record", str(path)], ["true"])
        assert done.returncode == 1
        assert "another process records to it" in done.stderr
    same(path)


OCCUPIED: Final = 8125


@pytest.mark.parametrize(
    ("words", "command"),
    [(("-t", str(OCCUPIED)), ["true"]), ((), ["no-such-command"])],
    ids=["port", "command"],
)
def test_a_start_that_fails_leaves_the_files_of_before(
    lab: Lab, place: Path, words: tuple[str, ...], command: list[str]
) -> None:
    files = [place / name for name in ("net.rec", "net.rec.1", "guest.pcap")]
    for file in files:
        file.write_bytes(b"old")
    with lab.host.listen("0.0.0.0", OCCUPIED):
        done = lab.sansnet(["--record", str(files[0]), "-p", str(files[2]), *words], command)
    assert done.returncode in (1, 127), done.stderr
    assert [file.read_bytes() for file in files] == [b"old"] * 3
    assert len(list(place.iterdir())) == 3


def test_machines_that_never_connect_leave_the_files_of_before(lab: Lab, place: Path) -> None:
    files = [place / name for name in ("net.rec", "net.rec.1", "guest.pcap")]
    for file in files:
        file.write_bytes(b"old")
    words = ["--record", str(files[0]), "-p", str(files[2])]
    for command in (["serve", "--socket", "/nonexistent/d/s", *words], ["qemu", *words, "--", "-nosuchoption"]):
        line = [sys.executable, "-m", "sansnet_cli", *command]
        assert lab.host.run(*line, check=False).returncode == 1
        assert [file.read_bytes() for file in files] == [b"old"] * 3
