"""`sansnet serve`, with a kernel that plays the machine. TCP and UDP over it are in test_streams and test_datagrams."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from sansnet_core.vhost.messages import Request, emit
from tests.lab import GATEWAY4, HOST4, RUN_SANSNET, SERVER4, SERVER6, USER, Guest, Lab, Namespace, eventually
from tests.lab.machines import INTERFACE, bridged, configured, machine, machine_guest, serving

SIZE: Final = 20_000_000
PORT: Final = 8180


@pytest.fixture(scope="module")
def served(lab: Lab) -> Iterator[Guest]:
    with machine_guest(lab) as guest:
        yield guest


@pytest.fixture(scope="module")
def files(lab: Lab) -> Iterator[Path]:
    """A directory that upstream serves."""
    directory = lab.directory / "machine-files"
    directory.mkdir()
    (directory / "noise").write_bytes(random.Random(4).randbytes(SIZE))
    with lab.http_server(PORT, directory):
        yield directory


def url(server: str, name: str) -> str:
    return f"http://{f'[{server}]' if ':' in server else server}:{PORT}/{name}"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def pings(guest: Namespace, address: str) -> bool:
    return guest.run("ping", "-c1", "-W5", address, check=False).returncode == 0


def test_the_guest_configures_itself(served: Guest) -> None:
    shown = served.shell(f"ip address show dev {INTERFACE}; ip route; cat /etc/resolv.conf").stdout
    assert f"inet {HOST4}/24" in shown
    assert "inet6 2001:db8:1:" in shown
    assert "mtu 65520" in shown
    assert f"default via {GATEWAY4}" in shown
    assert f"nameserver {SERVER4}" in shown


def test_ping_works(served: Guest, server: str) -> None:
    assert pings(served, server)


def test_a_file_comes_down_and_goes_up_whole(served: Guest, server: str, files: Path, tmp_path: Path) -> None:
    down = tmp_path / "down"
    served.run("curl", "-sS", "--fail", "--max-time", "60", "--output", str(down), url(server, "noise"))
    assert sha256(down) == sha256(files / "noise")
    up = ["curl", "-sS", "--fail", "--max-time", "60", "--upload-file", str(files / "noise"), url(server, "upload")]
    assert served.run(*up).stdout == sha256(files / "noise")


def test_files_pass_whole_at_the_mtu_of_ethernet(lab: Lab, files: Path, tmp_path: Path) -> None:
    with machine_guest(lab, "--mtu", "1500") as guest:
        assert "mtu 1500 " in guest.shell(f"ip link show dev {INTERFACE}").stdout
        down = tmp_path / "down"
        guest.run("curl", "-sS", "--fail", "--max-time", "60", "--output", str(down), url(SERVER4, "noise"))
        assert sha256(down) == sha256(files / "noise")


def test_the_names_and_the_mtu_come_by_dhcp(lab: Lab) -> None:
    options = ["-H", "visitor", "--fqdn", "visitor.lab.example", "-S", "one.example", "-m", "9000", "-4"]
    with serving(lab, *options) as server, machine() as guest, bridged(guest, server.path):
        script = str(Path(__file__).with_name("guest_environment.sh"))
        wanted = [f"-O{name}" for name in ("mtu", "search", "hostname", "81")]
        done = guest.run("busybox", "udhcpc", "-i", INTERFACE, "-n", "-q", "-f", "-T", "1", "-s", script, *wanted)
    assert "DHCP: hostname=visitor\n" in done.stdout
    assert "DHCP: search=one.example\n" in done.stdout
    assert "DHCP: mtu=9000\n" in done.stdout
    assert f"{b'visitor'.hex()}036c6162076578616d706c65" in done.stdout


def test_the_hosts_loopback_is_closed_unless_it_is_opened(lab: Lab, served: Guest) -> None:
    with lab.host.listen("127.0.0.1") as listener:
        port = listener.getsockname()[1]
        with pytest.raises(OSError, match=r"refused|unreachable|timed out|No route"):
            served.connect(GATEWAY4, port)
        with machine_guest(lab, "--map-host-loopback", "10.9.9.9") as guest:
            guest.connect("10.9.9.9", port).close()


def test_the_same_guest_comes_back_to_another_server(lab: Lab, files: Path, tmp_path: Path) -> None:
    """Its old connections are reset as soon as it uses them, and new ones work at once."""
    path = lab.directory / "again.socket"
    with machine() as guest, bridged(guest, path), lab.upstream.listen(SERVER4) as listener:
        with serving(lab, path=path) as first:
            configured(guest)
            old = guest.connect(SERVER4, listener.getsockname()[1])
            far = listener.accept()[0]
            old.send(b"before")
            assert far.recv(100) == b"before"
            first.process.kill()
            first.process.wait(10)
            assert eventually(lambda: not path.exists())  # the broker removes it
        with serving(lab, path=path) as second, old, far:
            assert second.says("a guest has connected")
            with pytest.raises(ConnectionResetError):
                converse(old)
            down = tmp_path / "down"
            guest.run("curl", "-sS", "--fail", "--max-time", "60", "--output", str(down), url(SERVER4, "noise"))
            assert sha256(down) == sha256(files / "noise")
            assert second.end() == 0


def converse(stream: socket.socket) -> bytes:
    """Send something and hear what comes."""
    stream.send(b"hello")
    return stream.recv(100)


def test_the_next_guest_is_served_when_the_first_has_gone(lab: Lab) -> None:
    with serving(lab) as server, machine() as first, machine() as second:
        with bridged(first, server.path):
            configured(first)
            assert pings(first, SERVER4)
        with bridged(second, server.path):
            configured(second)
            assert pings(second, SERVER4)
        assert server.says("the guest is disconnected")
        assert server.said().count("a guest has connected") == 2
        assert server.end() == 0
        assert not server.path.exists()


def test_a_guest_that_was_stopped_goes_on_and_has_lost_nothing(lab: Lab, server: str) -> None:
    """Neither does sansnet grow meanwhile, nor does it spin."""
    noise = random.Random(6).randbytes(SIZE)
    with serving(lab) as sansnet, machine() as guest, bridged(guest, sansnet.path) as bridge:
        configured(guest)
        seen = Guest(guest.pid, sansnet.process.pid)
        with lab.upstream.listen(server) as listener:
            nears = [guest.connect(server, listener.getsockname()[1]) for _ in range(8)]
            fars = [listener.accept()[0] for _ in nears]
        bridge.send_signal(signal.SIGSTOP)
        before = seen.resident()
        senders = [threading.Thread(target=far.sendall, args=(noise,)) for far in fars]
        for sender in senders:
            sender.start()

        def rests() -> bool:
            used = seen.processor_time()
            time.sleep(1)
            return seen.processor_time() - used < 0.2

        time.sleep(2)
        assert eventually(rests)
        assert seen.resident() - before < 64 << 20
        bridge.send_signal(signal.SIGCONT)
        for near in nears:
            assert received(near, SIZE) == noise
        for sender, near, far in zip(senders, nears, fars, strict=True):
            sender.join()
            near.close()
            far.close()
        assert sansnet.end() == 0


def received(stream: socket.socket, size: int) -> bytes:
    """The next bytes of a stream."""
    data = bytearray()
    while len(data) < size:
        piece = stream.recv(1 << 20)
        assert piece
        data += piece
    return bytes(data)


def test_an_ordinary_user_may_serve(lab: Lab) -> None:
    directory = lab.directory / "users-sockets"
    directory.mkdir()
    directory.chmod(0o777)
    with serving(lab, "-v", path=directory / "socket", user=USER) as server, machine() as guest:
        assert server.path.stat().st_uid == USER
        with bridged(guest, server.path):
            configured(guest)
            assert pings(guest, SERVER4)
            assert pings(guest, SERVER6)
        assert server.end() == 0
        assert "frames from the guest" in server.said()
        assert not server.path.exists()


def attached(path: Path) -> socket.socket:
    """A guest that has connected and been greeted."""
    made = connected(path)
    assert made.recv(1 << 16)
    return made


def test_a_second_guest_is_refused_at_once(lab: Lab) -> None:
    with serving(lab) as server, attached(server.path), socket.socket(socket.AF_UNIX) as other:
        other.settimeout(10)
        other.connect(str(server.path))
        assert other.recv(1) == b""
        assert server.says(f"process {os.getpid()} was refused")


@pytest.mark.parametrize("length", [0, 13, 65550, 0xFFFFFFFF])
def test_a_frame_length_out_of_range_drops_the_guest_and_the_next_is_served(lab: Lab, length: int) -> None:
    with serving(lab) as server:
        with attached(server.path) as guest:
            guest.sendall(struct.pack("!I", length) + bytes(100))
            while guest.recv(1 << 16):
                pass
        assert server.says(f"the guest is disconnected: a frame of {length} bytes")
        attached(server.path).close()
        assert server.end() == 0


def test_a_front_end_that_does_not_last_is_named_and_the_next_is_served(lab: Lab) -> None:
    with serving(lab, "--vhost-user") as server:
        connected(server.path).close()
        assert server.says("the guest is disconnected: the front-end is gone")
        with connected(server.path) as guest:
            guest.sendall(b"\xff" * 12)
            assert guest.recv(1) == b""
        assert server.says("the guest is disconnected: vhost-user: ")
        with connected(server.path) as guest:
            guest.sendall(emit(Request.GET_FEATURES, b"", reply=False))
            assert len(guest.recv(100)) == 20
            with connected(server.path) as other:
                assert other.recv(1) == b""
            assert server.says(f"process {os.getpid()} was refused")
        assert server.end() == 0


def connected(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(10)
    made.connect(str(path))
    return made


def test_a_guest_that_takes_the_place_of_one_that_hung_up_is_not_refused(lab: Lab) -> None:
    with serving(lab) as server:
        for _ in range(50):
            attached(server.path).close()
        assert "refused" not in server.said()
        assert server.end() == 0


def test_one_off_ends_with_the_first_guest(lab: Lab) -> None:
    with serving(lab, "--one-off") as server:
        attached(server.path).close()
        assert server.process.wait(10) == 0
        assert not server.path.exists()


def test_a_connected_socket_is_a_guest(lab: Lab) -> None:
    ours, theirs = socket.socketpair()
    command = [*RUN_SANSNET[:-1], "serve", "--fd", str(ours.fileno())]
    process = subprocess.Popen(lab.host.command(*command), pass_fds=[ours.fileno()], stderr=subprocess.PIPE, text=True)
    ours.close()
    with process, machine() as guest:
        with theirs, bridged(guest, theirs.fileno()):
            theirs.close()
            configured(guest)
            assert pings(guest, SERVER4)
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert "the guest is disconnected" in process.stderr.read()


@pytest.mark.parametrize("words", [["serve"], ["passt", "-f"], ["passt"]], ids=["serve", "passt", "background"])
def test_a_connected_socket_may_be_the_standard_streams(lab: Lab, words: list[str]) -> None:
    """As of a super-server; nothing is said to the guest then."""
    ours, theirs = socket.socketpair()
    command = lab.host.command(*RUN_SANSNET[:-1], *words, "--fd", "0", "-v" if words == ["serve"] else "-d")
    process = subprocess.Popen(command, stdin=ours.fileno(), stdout=ours.fileno(), stderr=ours.fileno())
    ours.close()
    with process, machine() as guest:
        with theirs, bridged(guest, theirs.fileno()):
            theirs.close()
            configured(guest)
            assert pings(guest, SERVER4)
        assert process.wait(10) == 0


@pytest.mark.parametrize("words", [["serve"], ["passt", "-f"]], ids=["serve", "passt"])
@pytest.mark.parametrize("number", [0, *range(3, 12)])
def test_a_descriptor_that_was_not_passed_on_is_an_error_at_once(lab: Lab, words: list[str], number: int) -> None:
    command = [*RUN_SANSNET[:-1], *words, "--fd", str(number)]
    done = lab.host.run("sh", "-c", 'exec "$@" <&-', "sh", *command, check=False, timeout=10)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"descriptor {number} is not " in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_and_removes_the_socket(lab: Lab, number: signal.Signals) -> None:
    with serving(lab) as server, attached(server.path) as guest:
        server.process.send_signal(number)
        assert server.process.wait(10) == 0
        assert not server.path.exists()
        while guest.recv(1 << 16):
            pass


def test_a_socket_that_somebody_listens_on_is_left_alone(lab: Lab) -> None:
    with serving(lab) as server:
        command = [*RUN_SANSNET[:-1], "serve", "--socket", str(server.path)]
        second = lab.host.run(*command, check=False)
        assert second.returncode == 1
        assert "another program listens on" in second.stderr
        attached(server.path).close()


def test_captures_of_all_guests_are_one_file(lab: Lab) -> None:
    capture = lab.directory / "machines.pcap"
    with serving(lab, "-p", str(capture)) as server:
        for _ in range(3):
            attached(server.path).close()
        assert eventually(lambda: server.said().count("disconnected") == 3)
        assert server.end() == 0
    shown = lab.host.run("tcpdump", "-nn", "-r", str(capture), "arp")
    assert shown.stdout.count(f"who-has {HOST4}") == 3
