"""`sansnet attach`: namespaces that others made, found in each of the ways, and what happens at their end."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.lab import GATEWAY4, HOST4, HOST6, SERVER4, SERVER6, USER, Echo, Lab, Namespace, eventually, served
from tests.lab.callers import alive, ended
from tests.lab.namespaces import held_namespace, running

NAME: Final = "visited"
SOON: Final = 2.0
"""Seconds within which it ends when the namespace has gone."""


def command(lab: Lab, *options: str, user: int | None = None) -> list[str]:
    """The command line of `sansnet attach OPTIONS` in the host; it keeps its process id."""
    line = [sys.executable, "-W", "error", "-m", "sansnet_cli", "attach", *options]
    if user is not None:
        line = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--", *line]
    return lab.host.command("env", f"HOME={lab.directory}", "LC_ALL=C.UTF-8", *line)


class Attached:
    """A `sansnet attach` that runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def ends(self, seconds: float = SOON) -> tuple[int, str]:
        """Its status, and what it said after it was attached."""
        status = self.process.wait(seconds)
        assert self.process.stderr is not None
        return status, self.process.stderr.read()


@contextmanager
def attached(lab: Lab, *options: str, user: int | None = None) -> Iterator[Attached]:
    with running(command(lab, *options, user=user), stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("sansnet: attached to "), line + process.stderr.read()
        yield Attached(process)


def refusal(lab: Lab, *options: str, user: int | None = None) -> str:
    """The message that it prints instead of attaching."""
    done = subprocess.run(command(lab, *options, user=user), check=False, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    return done.stderr


def works(namespace: Namespace) -> bool:
    """Whether the network in there leads upstream, by both families."""
    script = " && ".join(f"ping -q -c1 -W5 {server}" for server in (SERVER4, SERVER6))
    return namespace.shell(script, check=False).returncode == 0


@pytest.fixture
def visited() -> Iterator[Namespace]:
    with held_namespace() as namespace:
        yield namespace


@pytest.fixture
def named(lab: Lab) -> Iterator[Namespace]:
    """A namespace of the host's that `ip netns` knows, with nobody in it but a process that sleeps."""
    lab.host.shell(f"mkdir -p /run/netns; mount -t tmpfs none /run/netns; ip netns add {NAME}")
    with running(lab.host.command("ip", "netns", "exec", NAME, "sleep", "600")) as inhabitant:
        assert eventually(lambda: "sleep" in Path(f"/proc/{inhabitant.pid}/comm").read_text())
        yield Namespace(inhabitant.pid)
    lab.host.shell(f"ip netns del {NAME} || true; umount /run/netns/{NAME} || true; umount /run/netns")


@contextmanager
def of_user(process: str = "echo made; exec sleep 600") -> Iterator[Namespace]:
    """Namespaces that an ordinary user made, with a process in them that says "made" when it is there."""
    line = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--"]
    line += [
        "unshare",
        "--user",
        "--map-root-user",
        "--net",
        "sh",
        "-c",
        f"ip link set lo up; {process}",
    ]
    with running(line, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "made\n"
        yield Namespace(holder.pid)


def test_a_process_has_the_hosts_network_until_it_ends(lab: Lab) -> None:
    with held_namespace() as visited, attached(lab, str(visited.pid)) as sansnet:
        shown = visited.shell("ip address show dev uplink; ip route").stdout
        assert f"inet {HOST4}/24" in shown
        assert f"inet6 {HOST6}/64" in shown
        assert f"default via {GATEWAY4}" in shown
        assert works(visited)
        os.kill(visited.pid, signal.SIGKILL)
        assert sansnet.ends() == (0, "")


@pytest.mark.parametrize("form", [NAME, f"/run/netns/{NAME}"], ids=["name", "path"])
def test_a_named_namespace_has_it_until_the_name_is_deleted(lab: Lab, named: Namespace, form: str) -> None:
    with attached(lab, "--netns", form) as sansnet:
        assert works(named)
        lab.host.shell(f"ip netns del {NAME}")
        assert sansnet.ends() == (0, "")
        assert "uplink" not in named.shell("ip link").stdout


def test_the_file_of_a_process_is_a_path_like_others(lab: Lab) -> None:
    with held_namespace() as visited, attached(lab, "--netns", f"/proc/{visited.pid}/ns/net") as sansnet:
        assert works(visited)
        os.kill(visited.pid, signal.SIGKILL)
        assert sansnet.ends() == (0, "")


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
def test_a_process_whose_user_namespace_does_not_own_its_network(lab: Lab, user: int | None) -> None:
    process = "exec unshare --user sh -c 'echo made; exec sleep 600'"
    with of_user(process) as visited, attached(lab, str(visited.pid), user=user):
        fetch = ["nsenter", f"--target={visited.pid}", "--net", "ping", "-q", "-c1", "-W5", SERVER4]
        assert subprocess.run(fetch, check=False, capture_output=True).returncode == 0


def test_a_user_namespace_that_does_not_own_the_network_is_said_to_be_wrong(lab: Lab) -> None:
    with of_user("exec unshare --user sh -c 'echo made; exec sleep 600'") as visited:
        files = [f"/proc/{visited.pid}/ns/{kind}" for kind in ("net", "user")]
        text = refusal(lab, "--netns", files[0], "--userns", files[1], user=USER)
    assert "this user namespace does not own it; give the user namespace that does, or a process id" in text


@pytest.mark.parametrize("by_path", [False, True], ids=["process", "paths"])
@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
def test_an_ordinary_users_own_namespaces(lab: Lab, user: int | None, by_path: bool) -> None:
    with of_user() as visited:
        files = [f"/proc/{visited.pid}/ns/{kind}" for kind in ("net", "user")]
        options = ["--netns", files[0], "--userns", files[1]] if by_path else [str(visited.pid)]
        with attached(lab, *options, user=user) as sansnet:
            fetch = ["nsenter", f"--target={visited.pid}", "--net", "ping", "-q", "-c1", "-W5"]
            for server in (SERVER4, SERVER6):
                assert subprocess.run([*fetch, server], check=False, capture_output=True).returncode == 0
            os.kill(visited.pid, signal.SIGKILL)
            assert sansnet.ends() == (0, "")


def test_a_user_may_not_attach_to_what_is_roots(lab: Lab, visited: Namespace, named: Namespace) -> None:
    assert "may not be opened: run sansnet as the user that made it, or as root" in refusal(
        lab, str(visited.pid), user=USER
    )
    assert "may not be entered: not permitted; run sansnet as root, or give the user namespace" in refusal(
        lab, "--netns", NAME, user=USER
    )
    assert works(named) is False


@pytest.mark.parametrize("delay", [0.0, 0.001, 0.002, 0.004])
def test_a_signal_that_comes_when_the_namespace_is_gone_changes_nothing(lab: Lab, delay: float) -> None:
    """Callers stop the container first, and its network at once after that."""
    with held_namespace() as visited, attached(lab, str(visited.pid)) as sansnet:
        assert works(visited)  # signals are heard
        os.kill(visited.pid, signal.SIGKILL)
        time.sleep(delay)
        sansnet.process.terminate()
        assert sansnet.ends() == (0, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_ends_it_with_status_0_and_the_namespace_stays(
    lab: Lab, visited: Namespace, number: signal.Signals
) -> None:
    visited.shell("ip link add own type veth peer name peer; ip address add 192.0.2.77/24 dev own")
    with attached(lab, str(visited.pid)) as sansnet:
        sansnet.process.send_signal(number)
        assert sansnet.ends() == (0, "")
    shown = visited.shell("ip address").stdout
    assert "192.0.2.77/24" in shown
    assert "uplink" not in shown


def test_it_stays_when_told_so(lab: Lab, named: Namespace) -> None:
    with attached(lab, "--netns", NAME, "--no-netns-quit") as sansnet:
        lab.host.shell(f"ip netns del {NAME}")
        with pytest.raises(subprocess.TimeoutExpired):
            sansnet.ends()
        assert works(named)
        sansnet.process.terminate()
        assert sansnet.ends() == (0, "")


def test_it_can_be_started_again_after_it_was_killed(lab: Lab, visited: Namespace) -> None:
    with attached(lab, str(visited.pid)) as sansnet:
        assert works(visited)
        sansnet.process.kill()
        assert sansnet.ends()[0] == -signal.SIGKILL
    with attached(lab, str(visited.pid)):
        assert works(visited)


def test_an_interface_that_was_left_with_its_addresses_is_taken_over(lab: Lab, visited: Namespace) -> None:
    lab.host.run(
        "nsenter", f"--net=/proc/{visited.pid}/ns/net", "sh", "-ec",
        f"ip tuntap add uplink mode tap vnet_hdr; ip address add {HOST4}/24 dev uplink; ip link set uplink up",
    )  # fmt: skip
    with attached(lab, str(visited.pid)):
        assert works(visited)
        assert visited.shell("ip -4 -o address show dev uplink").stdout.count(f"inet {HOST4}/24") == 1


def test_an_interface_that_is_in_the_way_is_spoken_of(lab: Lab, visited: Namespace) -> None:
    visited.shell("ip link add uplink type veth peer name peer")
    assert "there is an interface 'uplink' already, which is not a tap; give another name with -I" in refusal(
        lab, str(visited.pid)
    )
    with attached(lab, "-I", "eth7", str(visited.pid)):
        assert works(visited)
        assert "another program has interface 'eth7'; end that, or give another name with -I" in refusal(
            lab, "-I", "eth7", str(visited.pid)
        )


def test_the_guest_may_configure_itself(lab: Lab, visited: Namespace) -> None:
    with attached(lab, "--no-config", "--ns-mac-addr", "02:00:00:00:00:09", str(visited.pid)):
        assert visited.shell("ip -br address show dev uplink").stdout.split() == ["uplink", "DOWN"]
        visited.shell("echo 1 >/proc/sys/net/ipv6/conf/uplink/accept_ra; ip link set uplink up")
        assert eventually(lambda: "default via fe80::" in visited.shell("ip -6 route").stdout)
        assert "02:00:00:00:00:09" in visited.shell("ip link show dev uplink").stdout


def test_losing_the_interface_is_a_failure(lab: Lab, visited: Namespace) -> None:
    with attached(lab, str(visited.pid)) as sansnet:
        visited.shell("ip link del uplink")
        status, said = sansnet.ends()
        assert status == 1
        assert "sansnet: the guest has lost its interface: the tap" in said


def test_what_is_no_namespace_is_refused(lab: Lab) -> None:
    assert "there is no process 999999999" in refusal(lab, "999999999")
    assert "/etc/passwd is not a network namespace" in refusal(lab, "--netns", "/etc/passwd")
    assert "is the network that sansnet itself is in" in refusal(lab, str(lab.host.pid))


def test_frames_are_captured(lab: Lab, visited: Namespace) -> None:
    with tempfile.TemporaryDirectory(dir=lab.directory) as directory:
        file = Path(directory) / "frames.pcap"
        with attached(lab, "-p", str(file), str(visited.pid)) as sansnet:
            assert works(visited)
            sansnet.process.terminate()
            assert sansnet.ends() == (0, "")
        shown = subprocess.run(shlex.split(f"tcpdump -n -r {file}"), check=True, capture_output=True, text=True).stdout
        assert f"{HOST4} > {SERVER4}: ICMP echo request" in shown
        assert f"{SERVER4} > {HOST4}: ICMP echo reply" in shown


def echoes(near: socket.socket) -> bool:
    """Whether what is sent comes back."""
    with near:
        near.sendall(b"x")
        return near.recv(1) == b"x"


@pytest.mark.parametrize("owner", [None, USER], ids=["root", "user"])
def test_ports_are_forwarded_until_the_end_and_free_at_once(lab: Lab, owner: int | None) -> None:
    """For an ordinary user the namespace is one that this user has made."""
    with of_user() if owner else held_namespace() as namespace:
        for _ in range(2):
            with attached(lab, "-t", "8301:80", "-T", "7301", str(namespace.pid), user=owner) as sansnet:
                with served(namespace.listen("0.0.0.0", 80), Echo.stream):
                    assert echoes(lab.upstream.connect(HOST4, 8301))
                    assert echoes(lab.host.connect("127.0.0.1", 8301))
                with served(lab.host.listen("127.0.0.1", 7301), Echo.stream):
                    assert echoes(namespace.connect("127.0.0.1", 7301))
                sansnet.process.terminate()
                assert sansnet.ends() == (0, "")
            lab.host.listen("0.0.0.0", 8301).close()
            namespace.listen("127.0.0.1", 7301).close()


def test_in_the_background_it_returns_when_the_network_works(lab: Lab, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with held_namespace() as namespace:
        line = command(lab, "--background", "--pid", str(pid_file), str(namespace.pid))
        done = subprocess.run(line, check=False, capture_output=True, text=True, timeout=20)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert done.stderr.startswith("sansnet: attached to ")
        with ended(pid_file) as pid:
            assert works(namespace)
            namespace.run("kill", str(namespace.pid), check=False)
            assert eventually(lambda: not alive(pid))
            assert not pid_file.exists()
            pid_file.write_text(f"{pid}\n")  # for `ended`


def test_in_the_background_what_cannot_work_is_said_to_the_caller(lab: Lab, visited: Namespace, tmp_path: Path) -> None:
    options = ["--background", "--pid", str(tmp_path / "pid"), "-i", "nothing0", str(visited.pid)]
    assert "nothing0" in refusal(lab, *options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("background", [[], ["--background"]])
def test_it_is_not_attached_where_it_could_not_serve(lab: Lab, visited: Namespace, background: list[str]) -> None:
    line = ["prlimit", "--nofile=20", "--", *command(lab, *background, str(visited.pid))]
    done = subprocess.run(line, check=False, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "sansnet: Too many open files; allow more, for example: ulimit -n 1024\n"


def test_in_the_background_a_namespace_may_be_a_descriptor_of_the_callers(
    lab: Lab, visited: Namespace, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    with open(f"/proc/{visited.pid}/ns/net") as file:
        path = f"/proc/self/fd/{file.fileno()}"
        line = command(lab, "--background", "--pid", str(pid_file), "--no-netns-quit", "--netns", path)
        subprocess.run(line, check=True, timeout=20, pass_fds=[file.fileno()], capture_output=True)
    with ended(pid_file):
        assert works(visited)


def test_the_service_manager_is_told_when_the_network_works(lab: Lab, visited: Namespace, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        line = ["env", f"NOTIFY_SOCKET={tmp_path / 'notify'}", *command(lab, str(visited.pid))]
        with running(line, stderr=subprocess.PIPE):
            assert manager.recv(100) == b"READY=1"
            assert works(visited)
