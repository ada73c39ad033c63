"""`pasta` as other programs and people call it."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.lab import GATEWAY4, HOST4, SERVER4, USER, DnsServer, Lab, eventually, laboratory
from tests.lab.callers import Caller, alive, contained, ended, greeting, heard
from tests.lab.namespaces import Namespace, running

SOON: Final = 2.0


@pytest.fixture
def caller(lab: Lab) -> Iterator[Caller]:
    with tempfile.TemporaryDirectory(dir=lab.directory) as name:
        yield Caller(lab, Path(name))


def shown(namespace: Namespace, what: str) -> str:
    """The output of `ip` in the network of a namespace."""
    command = ["nsenter", f"--target={namespace.pid}", "--net", "ip", *what.split()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout


def reaches(namespace: Namespace, address: str) -> bool:
    command = ["nsenter", f"--target={namespace.pid}", "--net", "ping", "-q", "-c1", "-W5", address]
    return subprocess.run(command, stdout=subprocess.DEVNULL, timeout=20, check=False).returncode == 0


def test_nsjail(lab: Lab, caller: Caller) -> None:
    with contained(lab, USER) as jail:
        line = caller.command(
            "pasta", "-f", "-q", "--no-dhcp", "--no-dhcpv6", "--no-ra", "--config-net", "--dhcp-dns", "--dns-forward",
            "10.255.255.1", "--no-map-gw", "-a", "10.255.255.2", "-n", "255.255.255.0", "-g", "10.255.255.1", "-a",
            "fc00::2", "-g", "fc00::1", "-I", "eth0", "-t", "none", "-u", "none", "-T", "none", "-U", "none",
            str(jail.pid), user=USER,
        )  # fmt: skip
        with running(line, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
            assert eventually(lambda: "fc00::2/64" in shown(jail, "address show"))
            assert "inet 10.255.255.2/24" in shown(jail, "address show dev eth0")
            assert "default via 10.255.255.1" in shown(jail, "route")
            assert "default via fc00::1" in shown(jail, "-6 route")
            assert eventually(lambda: reaches(jail, SERVER4))
            os.kill(jail.pid, signal.SIGKILL)
            errors = process.communicate(timeout=SOON)[1]
            assert (process.returncode, errors) == (0, "")


def test_lix(lab: Lab, caller: Caller) -> None:
    """Paths of descriptors, both families at once, and another user than the daemon that calls."""
    with contained(lab, USER) as build:
        line = caller.command(
            "pasta", "--quiet", "--foreground", "--config-net", "--gateway", "169.254.1.1", "--address", "169.254.1.2",
            "--netmask", "255.255.255.0", "--dns-forward", "169.254.1.1", "--gateway",
            "64:ff9b:1:4b8e:472e:a5c8:a9fe:101", "--address", "64:ff9b:1:4b8e:472e:a5c8:a9fe:102", "--dns-forward",
            "64:ff9b:1:4b8e:472e:a5c8:a9fe:101",
            "--ns-ifname", "eth0", "--no-netns-quit", "--netns", "/proc/self/fd/0", "--userns", "/proc/self/fd/7",
            "--runas", str(USER),
        )  # fmt: skip
        with (
            open(f"/proc/{build.pid}/ns/net") as netns,
            open(f"/proc/{build.pid}/ns/user") as userns,
            running(
                ["bash", "-c", f'exec 7<&{userns.fileno()}; exec "$@"', "bash", *line],
                stdin=netns,
                pass_fds=[userns.fileno()],
                stderr=subprocess.PIPE,
            ) as process,
        ):
            assert eventually(lambda: "UP" in shown(build, "link show") and "eth0" in shown(build, "link show"))
            assert eventually(lambda: reaches(build, SERVER4))
            assert "inet 169.254.1.2/24" in shown(build, "address show dev eth0")
            assert eventually(lambda: f"Uid:\t{USER}\t{USER}" in Path(f"/proc/{process.pid}/status").read_text())
            os.kill(build.pid, signal.SIGKILL)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1.5)
            process.kill()
            # the laboratory has no name server of IPv6
            forward = "--dns-forward 64:ff9b:1:4b8e:472e:a5c8:a9fe:101"
            assert process.communicate()[1].startswith(f"pasta: {forward} has no name server behind it")


def test_drop(lab: Lab, caller: Caller) -> None:
    pid_file, log = caller.directory / "pid", caller.directory / "log"
    caller.directory.chmod(0o777)
    with contained(lab, USER) as jail:
        done = caller.call(
            "pasta", "--config-net", "--dns-forward", "169.254.1.1", "--pid", str(pid_file), "--no-map-gw",
            "--log-file", str(log), "--tcp-ports", "8086", "--tcp-ns", "8087", "--udp-ports", "none", "--udp-ns",
            "none", str(jail.pid), user=USER,
        )  # fmt: skip
        assert (done.status, done.output, done.errors) == (0, "", "")
        with ended(pid_file) as pid:
            assert log.stat().st_size
            assert f"inet {HOST4}/24" in shown(jail, "address")
            with greeting(["nsenter", f"--target={jail.pid}", "--net"], 8086):
                assert heard(lab.upstream, HOST4, 8086) == f"hello {GATEWAY4}"
            with greeting(lab.host.command(), 8087):
                assert heard(jail, "127.0.0.1", 8087) == "hello 127.0.0.1"
            os.kill(jail.pid, signal.SIGKILL)
            assert eventually(lambda: not alive(pid), seconds=SOON)


def test_strike(lab: Lab, caller: Caller) -> None:
    """Two ports of the host's loopback, and no other network at all."""
    with contained(lab, USER) as jail:
        line = caller.command(
            "pasta", "--foreground", "--quiet", "--splice-only", "-t", "none", "-u", "none", "-U", "none", "-T", "8088",
            "-T", "8089", str(jail.pid), user=USER,
        )  # fmt: skip
        with (
            running(line, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as process,
            greeting(lab.host.command(), 8089),
        ):
            port = "ss --no-header --listening --tcp --numeric 'sport = 8089'"
            inside = ["nsenter", f"--target={jail.pid}", "--net"]
            assert eventually(lambda: bool(subprocess.check_output([*inside, "sh", "-c", port])))
            assert heard(jail, "127.0.0.1", 8089) == "hello 127.0.0.1"
            script = f"ip link set uplink up; ip address add {HOST4}/24 dev uplink; ip route add default via {GATEWAY4}"
            subprocess.run([*inside, "sh", "-c", script], check=True)
            assert not reaches(jail, SERVER4)
            process.terminate()
            assert process.communicate(timeout=SOON)[1] == ""
            assert process.returncode == 0


def test_devsandbox(caller: Caller) -> None:
    script = '"$@" --help | grep -q -- --map-host-loopback'
    subprocess.run(["sh", "-c", script, "sh", *caller.command("pasta")], check=True, timeout=20)


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
def test_a_command_has_a_network_and_its_status_is_pastas(lab: Lab, caller: Caller, user: int | None) -> None:
    script = f"ping -q -c1 -W5 {SERVER4} >&2 && hostname && cat /etc/resolv.conf && exit 3"
    done = caller.call("pasta", "--config-net", "--", "sh", "-c", script, user=user)
    assert done.status == 3
    hostname, *resolver = done.output.splitlines()
    assert hostname == f"pasta-{socket.gethostname()}"[:64]
    assert resolver == (lab.directory / "resolv.conf").read_text().splitlines()


def test_a_command_is_root_in_its_namespaces(caller: Caller) -> None:
    done = caller.call("pasta", "--config-net", "--", "sh", "-c", "id -u; ip link set lo mtu 1500", user=USER)
    assert (done.status, done.output, done.errors) == (0, "0\n", "")


def test_a_router_that_is_the_hosts_resolver_too_answers(dns: DnsServer) -> None:
    """Although the gateway is the host's loopback, and the command has the host's own /etc/resolv.conf."""
    with (
        laboratory() as lab,
        dns.on(lab.upstream, GATEWAY4),
        tempfile.TemporaryDirectory(dir=lab.directory) as name,
        greeting(lab.host.command(), 8099),
    ):
        lab.set_resolver(f"nameserver {GATEWAY4}")
        script = f"dig +short +tries=1 www.lab.example; exec 3<>/dev/tcp/{GATEWAY4}/8099; cat <&3"
        done = Caller(lab, Path(name)).call("pasta", "--config-net", "--", "bash", "-c", script)
        assert (done.status, done.errors) == (0, "")
        assert done.output.startswith(f"{SERVER4}\nhello 127.0.0.1")


@pytest.mark.parametrize(
    ("words", "status", "errors"),
    [
        (["sh", "-c", "kill -9 $$"], 128 + signal.SIGKILL, ""),
        (["no-such-program"], 1, "pasta: no-such-program: command not found; check the name and PATH\n"),
        (["--netns", "no-such-name"], 1, "pasta: there is no network namespace 'no-such-name'"),
        (["--config-net", "999999999"], 1, "pasta: there is no process 999999999"),
    ],
)
def test_statuses_and_what_is_said(caller: Caller, words: list[str], status: int, errors: str) -> None:
    done = caller.call("pasta", "-q", *words)
    assert (done.status, done.output) == (status, "")
    assert done.errors.startswith(errors)
    assert done.errors.count("\n") == bool(errors)


def test_a_command_that_configures_itself_finds_an_interface_that_is_down(caller: Caller) -> None:
    done = caller.call("pasta", "--", "sh", "-c", "ip -br link show dev uplink; ip -br address show dev uplink")
    assert done.errors == ""
    assert done.output.split()[:2] == ["uplink", "DOWN"]
    assert HOST4 not in done.output


def test_without_a_command_there_is_a_login_shell(caller: Caller) -> None:
    main, other = pty.openpty()
    line = ["env", "SHELL=/bin/bash", *caller.command("pasta")]
    with running(line, stdin=other, stdout=other, stderr=other, start_new_session=True) as process:
        os.close(other)
        os.write(main, b"shopt login_shell; exit 5\n")
        assert process.wait(20) == 5
        assert b"login_shell    \ton" in os.read(main, 1 << 16)
    os.close(main)


def test_by_default_ports_follow_each_other(lab: Lab, caller: Caller) -> None:
    pid_file = caller.directory / "pid"
    caller.directory.chmod(0o777)
    with contained(lab, USER) as guest:
        assert caller.call("pasta", "--config-net", "--pid", str(pid_file), str(guest.pid), user=USER).status == 0
        inside = ["nsenter", f"--target={guest.pid}", "--net"]
        with ended(pid_file), greeting(lab.host.command(), 8092), greeting(inside, 8093):
            assert eventually(lambda: "8092" in listening(guest), seconds=SOON)
            assert heard(guest, "127.0.0.1", 8092) == "hello 127.0.0.1"
            assert eventually(lambda: "8093" in listening(lab.host), seconds=SOON)
            assert heard(lab.host, "127.0.0.1", 8093).startswith("hello ")
            assert heard(guest, GATEWAY4, 8092) == "hello 127.0.0.1"


def listening(namespace: Namespace) -> set[str]:
    """Ports of TCP that somebody listens on."""
    command = ["nsenter", f"--target={namespace.pid}", "--net", "ss", "--no-header", "-tln"]
    lines = subprocess.check_output(command, text=True).splitlines()
    return {line.split()[3].rpartition(":")[2] for line in lines}


def test_each_packet_is_spoken_of_if_asked_for(caller: Caller) -> None:
    done = caller.call("pasta", "--config-net", "--trace", "--", "ping", "-q", "-c1", "-W5", SERVER4)
    assert done.status == 0
    assert f"guest: IP {HOST4} > {SERVER4}: ICMP echo request" in done.errors
    assert f"host: IP {SERVER4} > {HOST4}: ICMP echo reply" in done.errors


def test_counters_are_shown_as_often_as_asked_for(caller: Caller) -> None:
    done = caller.call(
        "pasta", "-f", "--stats", "1", "-d", "--config-net", "--", "sh", "-c", "ping -c2 127.0.0.1; sleep 1.5"
    )
    assert done.errors.count("frames from the guest") >= 2
