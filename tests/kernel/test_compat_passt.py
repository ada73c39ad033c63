"""`passt` as its callers call it: each with the very command line, and what it relies on."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from sansnet_core.vhost.messages import Region, Request, emit, emit_regions
from tests.lab import GATEWAY4, HOST4, HOST6, SERVER4, USER, Lab, eventually
from tests.lab.callers import Caller, alive, ended, greeting, heard
from tests.lab.machines import INTERFACE, bridged, configured, machine
from tests.lab.namespaces import Namespace, running

GET_FEATURES: Final = bytes([1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0])
"""A request of vhost-user."""


@pytest.fixture
def caller(lab: Lab) -> Iterator[Caller]:
    with tempfile.TemporaryDirectory(dir=lab.directory) as name:
        yield Caller(lab, Path(name))


def pings(guest: Namespace, address: str) -> bool:
    return guest.run("ping", "-c1", "-W5", address, check=False).returncode == 0


def test_libvirt(caller: Caller) -> None:
    socket_, pid, log = (caller.directory / name for name in ("1-vm-net0.socket", "1-vm-net0-passt.pid", "passt.log"))
    done = caller.call(
        "passt", "--one-off", "--socket", str(socket_), "--pid", str(pid), "--mtu", "1400", "--interface", "uplink",
        "--log-file", str(log), "--hostname", "vm", "--fqdn", "vm.lab.example", "--address", "198.51.100.77",
        "--netmask", "24", "--address", "2001:db8:1::77", "--tcp-ports", f"{HOST4}%uplink/8096:96,~8000-8010",
        "--udp-ports", "%uplink/8097",
    )  # fmt: skip
    assert (done.status, done.output, done.errors) == (0, "", "")
    with ended(pid) as daemon, machine() as guest, bridged(guest, socket_):
        configured(guest)
        shown = guest.shell(f"ip address show dev {INTERFACE}").stdout
        assert "inet 198.51.100.77/24" in shown
        assert "mtu 1400" in shown
        assert pings(guest, SERVER4)
        with greeting(guest.command(), 96):
            assert heard(caller.lab.upstream, HOST4, 8096) == f"hello {GATEWAY4}"
        assert stat.S_ISSOCK(socket_.stat().st_mode)
        assert pid.read_text() == f"{daemon}\n"
    assert "UNIX domain socket bound at" in log.read_text()


def test_libvirt_ends_it_by_a_signal_or_with_the_machine(caller: Caller) -> None:
    socket_, pid = caller.directory / "socket", caller.directory / "pid"
    line = ["passt", "--one-off", "--socket", str(socket_), "--pid", str(pid)]
    assert caller.call(*line).status == 0
    with ended(pid) as daemon:
        os.kill(daemon, signal.SIGTERM)
        assert eventually(lambda: not alive(daemon), seconds=1)
    assert caller.call(*line).status == 0
    with ended(pid) as daemon:
        with socket.socket(socket.AF_UNIX) as machine_:
            machine_.connect(str(socket_))
        assert eventually(lambda: not alive(daemon), seconds=2)


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
def test_qemu(caller: Caller, user: int | None) -> None:
    """QEMU's `-netdev passt`, from 10.1 on: a connected socket at number 3, and a pid file that is there already."""
    ours, theirs = socket.socketpair()
    with ours, theirs, tempfile.NamedTemporaryFile(dir=caller.directory, prefix="passt-", suffix=".pid") as pid_file:
        Path(pid_file.name).chmod(0o666)
        line = caller.command(
            "passt", "--quiet", "--mtu", "1500", "--search", "a.example b.example", "--pid", pid_file.name, "--fd", "3",
            user=user,
        )  # fmt: skip
        script = f'exec 3<&{theirs.fileno()} {theirs.fileno()}<&-; exec "$@"'
        done = subprocess.run(
            ["bash", "-c", script, "bash", *line],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        theirs.close()
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        with ended(Path(pid_file.name)) as daemon:
            with machine() as guest, bridged(guest, ours.fileno()):
                configured(guest)
                assert pings(guest, SERVER4)
                assert "mtu 1500" in guest.shell(f"ip link show dev {INTERFACE}").stdout
                ours.close()
            assert eventually(lambda: not alive(daemon), seconds=2)


def test_qemu_with_shared_memory(caller: Caller) -> None:
    """QEMU begins to speak when the process that it started has ended."""
    pid_file = caller.directory / "pid"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        fd = str(theirs.fileno())
        line = ["passt", "--vhost-user", "--quiet", "--pid", str(pid_file), "--fd", fd]
        done = caller.call(*line, pass_fds=[theirs.fileno()])
        theirs.close()
        assert (done.status, done.output, done.errors) == (0, "", "")
        with ended(pid_file):
            ours.settimeout(5)
            ours.sendall(GET_FEATURES)
            assert ours.recv(12)[:4] == GET_FEATURES[:4]


def test_cloud_hypervisor(caller: Caller) -> None:
    socket_ = caller.directory / "socket"
    line = caller.command(
        "passt", "--socket", str(socket_), "--vhost-user", "--foreground", "--quiet", "-a", "10.0.2.15", "-g",
        "10.0.2.2", "-D", "none",
    )  # fmt: skip
    with running(line, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert eventually(socket_.exists)
        with socket.socket(socket.AF_UNIX) as machine_:
            machine_.settimeout(5)
            machine_.connect(str(socket_))
            machine_.sendall(GET_FEATURES)
            assert machine_.recv(12)[:4] == GET_FEATURES[:4]
        process.send_signal(signal.SIGQUIT)
        errors = process.communicate(timeout=5)[1]
        assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize("allowed", ["no", "by the option", "by the environment"])
def test_memory_that_can_be_taken_away(caller: Caller, allowed: str) -> None:
    """Memory on a disk takes no seal. The warning comes from the library's link, long after the start."""
    socket_, log = caller.directory / "socket", caller.directory / "passt.log"
    words = ["--allow-unsealed"] if allowed == "by the option" else []
    line = caller.command(
        "passt", "--socket", str(socket_), "--vhost-user", "--foreground", "--log-file", str(log), "--quiet", *words
    )  # fmt: skip
    variables = os.environ | ({"SANSNET_ALLOW_UNSEALED": "1"} if allowed == "by the environment" else {})
    with running(line, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=variables) as process:
        assert eventually(socket_.exists)
        with (caller.directory / "memory").open("wb+") as memory, socket.socket(socket.AF_UNIX) as machine_:
            memory.truncate(1 << 20)
            machine_.settimeout(5)
            machine_.connect(str(socket_))
            table = emit(Request.SET_MEM_TABLE, emit_regions((Region(0, 1 << 20, 1 << 40, 0),)), reply=False)
            socket.send_fds(machine_, [table], [memory.fileno()])
            answer = b""
            with suppress(OSError):  # it may be closed already
                machine_.sendall(GET_FEATURES)
                answer = machine_.recv(12)[:4]
            assert answer == (b"" if allowed == "no" else GET_FEATURES[:4])
        said = (
            "; give QEMU a memory-backend-memfd, or sansnet --allow-unsealed"
            if allowed == "no"
            else "this process ends"
        )
        assert eventually(lambda: said in log.read_text())
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=5)


def test_libguestfs(caller: Caller) -> None:
    assert caller.call("passt", "--help").status == 0
    socket_, pid = caller.directory / "socket", caller.directory / "pid"
    done = caller.call(
        "passt", "--one-off", "--socket", str(socket_), "--pid", str(pid), "--address", "169.254.2.15", "--netmask",
        "16", "--mac-addr", "52:56:00:00:00:02", "--gateway", "169.254.2.2",
    )  # fmt: skip
    assert done.status == 0
    with ended(pid), machine() as guest, bridged(guest, socket_):
        configured(guest)
        assert "inet 169.254.2.15/16" in guest.shell(f"ip address show dev {INTERFACE}").stdout
        assert pings(guest, SERVER4)
        assert "169.254.2.2 dev eth0 lladdr 52:56:00:00:00:02" in guest.shell("ip neighbour show").stdout


def test_muvm(caller: Caller) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        line = caller.command(
            "passt", "-q", "-f", "--fd", str(theirs.fileno()), "-t", "127.0.0.1/8094-8095:94-95", user=USER
        )
        with running(line, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
            theirs.close()
            with machine() as guest, bridged(guest, ours.fileno()):
                configured(guest)
                assert pings(guest, SERVER4)
                with greeting(guest.command(), 95):
                    assert heard(caller.lab.host, "127.0.0.1", 8095) == f"hello {GATEWAY4}"
                assert os.readlink(f"/proc/{process.pid}/ns/user") != os.readlink("/proc/self/ns/user")
            ours.close()
            errors = process.communicate(timeout=5)[1]
            assert (process.returncode, errors) == (0, "")


def bound(caller: Caller, pid: Path) -> str:
    """The socket of a new passt, as scripts find it."""
    script = '"$@" 2>&1 | awk "/UNIX domain socket bound at/ { print \\$NF }"'
    return caller.lab.host.run("sh", "-c", script, "sh", *caller.words("passt", "-P", str(pid))).stdout.strip()


def test_scripts_find_the_first_free_socket_by_what_is_said(caller: Caller) -> None:
    pids = [caller.directory / name for name in "123"]
    found: list[str] = []
    try:
        found.append(bound(caller, pids[0]))
        with ended(pids[0]):
            found.append(bound(caller, pids[1]))
            assert [Path(path).parent for path in found] == [Path("/tmp")] * 2
            assert all(re.fullmatch(r"passt_[1-9]\d*\.socket", Path(path).name) for path in found)
            assert found[0] != found[1]
        with ended(pids[1]):
            assert bound(caller, pids[2]) == found[0]
            with ended(pids[2]):
                pass
    finally:
        for path in found:
            Path(path).unlink(missing_ok=True)


def test_what_is_said_at_the_start_has_the_form_that_programs_search(caller: Caller) -> None:
    socket_, pid = caller.directory / "socket", caller.directory / "pid"
    done = caller.call("passt", "--socket", str(socket_), "--pid", str(pid))
    with ended(pid):
        lines = done.errors.splitlines()
        dhcp = lines.index("DHCP:")
        assert lines[dhcp + 1 : dhcp + 4] == [
            f"    assign: {HOST4}",
            "    mask: 255.255.255.0",
            f"    router: {GATEWAY4}",
        ]
        assert f"    assign: {HOST6}" in lines
        assert lines[-1] == f"UNIX domain socket bound at {socket_}"
        assert done.output == ""


def test_nothing_is_kept_of_the_caller_in_the_background(caller: Caller) -> None:
    socket_, pid = caller.directory / "socket", caller.directory / "pid"
    reader, writer = os.pipe()
    try:
        assert caller.call("passt", "-q", "-s", str(socket_), "-P", str(pid), pass_fds=[writer]).status == 0
        os.close(writer)
        with ended(pid) as daemon:
            assert os.read(reader, 1) == b""
            assert [os.readlink(f"/proc/{daemon}/fd/{number}") for number in range(3)] == ["/dev/null"] * 3
            assert os.readlink(f"/proc/{daemon}/cwd") == "/"
            assert os.getsid(daemon) == daemon
    finally:
        os.close(reader)


def test_the_systems_root_becomes_nobody_when_all_is_open(caller: Caller) -> None:
    socket_, pid = caller.directory / "socket", caller.directory / "pid"
    for options, uid in ([], "65534"), (["--runas", "54321:54322"], "54321"):
        assert caller.call("passt", "-q", "-s", str(socket_), "-P", str(pid), *options).status == 0
        with ended(pid) as daemon:
            [line] = [row for row in Path(f"/proc/{daemon}/status").read_text().splitlines() if row.startswith("Uid:")]
            assert line.split()[1:] == [uid] * 4
        socket_.unlink()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-i", "nosuch0"], "the host has no interface 'nosuch0'"),
        (["-P", "/nonexistent/pid"], "the pid file /nonexistent/pid cannot be written"),
        (["-l", "/nonexistent/log"], "the log file /nonexistent/log cannot be written"),
        (["-s", "/nonexistent/socket"], "cannot listen on /nonexistent/socket"),
        (["-o", "192.0.2.77"], "-o 192.0.2.77 is not an address of the host"),
        (["-F", "77"], "descriptor 77 is not open here"),
    ],
)
def test_what_fails_before_all_works_is_said_to_the_caller(caller: Caller, words: list[str], message: str) -> None:
    done = caller.call("passt", "-q", *words)
    assert (done.status, done.output) == (1, "")
    assert done.errors.startswith(f"passt: {message}")
    assert done.errors.count("\n") == 1


def test_an_ordinary_user_cannot_be_another_one(caller: Caller) -> None:
    caller.directory.chmod(0o777)
    done = caller.call("passt", "-q", "-s", str(caller.directory / "socket"), "--runas", "1", user=USER)
    assert (done.status, done.output) == (1, "")
    assert done.errors == (
        "passt: cannot become user 1 of group 1 (Operation not permitted); run it as root, or leave out --runas\n"
    )
    assert not (caller.directory / "socket").exists()


def test_capabilities_are_json(caller: Caller) -> None:
    done = caller.call("passt", "--print-capabilities")
    assert (done.status, json.loads(done.output), done.errors) == (0, {"type": "net"}, "")
