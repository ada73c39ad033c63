"""`pasta` as container engines call it: each with the very command line, and what it relies on."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.lab import GATEWAY4, HOST4, HOST6, SERVER4, USER, DnsServer, Lab, eventually
from tests.lab.callers import (
    Caller,
    Rootless,
    alive,
    as_owner,
    contained,
    ended,
    greeting,
    heard,
    processes_of,
    rootless,
)
from tests.lab.namespaces import running

_SANSNET: Final = Path(sys.prefix) / "bin" / "sansnet"

SOON: Final = 2.0
"""Seconds within which it must be gone when its namespace is."""


@pytest.fixture
def podman(lab: Lab) -> Iterator[Rootless]:
    with rootless(lab, USER) as made:
        yield made


@pytest.fixture
def caller(lab: Lab) -> Iterator[Caller]:
    with tempfile.TemporaryDirectory(dir=lab.directory) as name:
        yield Caller(lab, Path(name))


def addresses(podman: Rootless, netns: Path) -> set[str]:
    """The addresses of a namespace, without loopback and link-local ones."""
    done = subprocess.run(
        podman.within(netns, "ip", "-json", "address"), check=True, capture_output=True, text=True, timeout=20
    )
    return {
        address["local"]
        for link in json.loads(done.stdout)
        for address in link["addr_info"]
        if address["scope"] == "global"
    }


def says(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, stdin=subprocess.DEVNULL)
    return done.stdout + done.stderr


def gone(word: str) -> bool:
    return eventually(lambda: not processes_of(word), seconds=SOON)


def has_ended(pid: int) -> bool:
    return not alive(pid)


def is_free(lab: Lab, port: int) -> bool:
    with lab.host.open_socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED and _can_listen(lab, port)


def _can_listen(lab: Lab, port: int) -> bool:
    with lab.host.open_socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
        return True


def test_podman_since_5_3(podman: Rootless, dns: DnsServer) -> None:
    lab = podman.lab
    with podman.namespace() as netns:
        done = podman.call(
            "pasta", "--config-net", "-t", "8080-8080:80-80", "--dns-forward", "169.254.1.1", "-u", "none", "-T",
            "none", "-U", "none", "--no-map-gw", "--quiet", "--netns", str(netns), "--map-guest-addr", "169.254.1.2",
        )  # fmt: skip
        assert (done.status, done.output, done.errors) == (0, "", "")
        assert addresses(podman, netns) == {HOST4, HOST6}
        assert not is_free(lab, 8080)
        with greeting(podman.within(netns), 80):
            assert heard(lab.upstream, HOST4, 8080) == f"hello {GATEWAY4}"
            assert heard(lab.host, "127.0.0.1", 8080).startswith("hello ")
        with dns.on(lab.upstream, SERVER4):
            query = ["dig", "+short", "+tries=1", "@169.254.1.1", "www.lab.example"]
            assert says(podman.within(netns, *query)).strip() == SERVER4
        with greeting(lab.host.command(), 8090):  # host.containers.internal
            connect = "exec 3<>/dev/tcp/169.254.1.2/8090; cat <&3"
            assert says(podman.within(netns, "bash", "-c", connect)).startswith("hello ")
        with greeting(lab.host.command(), 8091):  # the gateway is a router like others
            connect = f"exec 3<>/dev/tcp/{GATEWAY4}/8091; cat <&3"
            assert "hello" not in says(podman.within(netns, "timeout", "3", "bash", "-c", connect))
        podman.remove(netns)
        assert gone(str(netns))
        assert is_free(lab, 8080)


def test_podman_5_0(podman: Rootless) -> None:
    with podman.namespace() as netns:
        done = podman.call(
            "pasta", "--config-net", "-t", "8081-8081:80-80", "-u", "none", "-T", "none", "-U", "none", "--no-map-gw",
            "--dns", "none", "--quiet", "--netns", str(netns),
        )  # fmt: skip
        assert (done.status, done.output, done.errors) == (0, "", "")
        assert addresses(podman, netns) == {HOST4, HOST6}
        with greeting(podman.within(netns), 80):
            assert heard(podman.lab.upstream, HOST4, 8081) == f"hello {GATEWAY4}"
        podman.remove(netns)
        assert gone(str(netns))


def test_podman_4_4(podman: Rootless) -> None:
    with podman.namespace() as netns:
        done = podman.call(
            "pasta", "--config-net", "-t", "127.0.0.1/8082-8082:80-80", "-u", "::1/8083-8083:83-83", "-T", "none", "-U",
            "none", "--no-map-gw", "--netns", str(netns),
        )  # fmt: skip
        assert (done.status, done.output) == (0, "")
        assert addresses(podman, netns) == {HOST4, HOST6}
        with greeting(podman.within(netns), 80):
            assert heard(podman.lab.host, "127.0.0.1", 8082).startswith("hello ")
            with pytest.raises(ConnectionRefusedError):
                heard(podman.lab.upstream, HOST4, 8082)
        podman.remove(netns)
        assert gone(str(netns))


def test_podmans_bridge(podman: Rootless) -> None:
    """Its liveness by signal 0, a new one on what the old one left, and its end by SIGTERM."""
    pid_file, control = podman.directory / "rootless-netns-conn.pid", podman.directory / "pasta.sock"
    with podman.namespace() as netns:
        line = [
            "pasta", "--config-net", "--pid", str(pid_file), "--dns-forward", "169.254.1.1", "-t", "none", "-u", "none",
            "-T", "none", "-U", "none", "--no-map-gw", "--quiet", "--netns", str(netns), "-c", str(control),
            "--map-guest-addr", "169.254.1.2",
        ]  # fmt: skip
        for number in (signal.SIGKILL, signal.SIGTERM):
            done = podman.call(*line)
            assert (done.status, done.output, done.errors) == (0, "", "")
            with ended(pid_file) as pid:
                os.kill(pid, 0)
                assert addresses(podman, netns) == {HOST4, HOST6}
                podman.run(str(_SANSNET), "ctl", str(control), "add", "-t", "8098:80")
                with greeting(podman.within(netns), 80):
                    assert heard(podman.lab.upstream, HOST4, 8098) == f"hello {GATEWAY4}"
                os.kill(pid, number)
                assert eventually(partial(has_ended, pid), seconds=SOON)


def test_podmans_bridge_since_6_0(podman: Rootless) -> None:
    """With `rootless_port_forwarder = "pasta"`: a container's ports are forwarded to its address behind the bridge."""
    pid_file, control = podman.directory / "rootless-netns-conn.pid", podman.directory / "pasta.sock"
    ports = ["-t", "0.0.0.0/8087:10.89.0.2/80", "-t", "0.0.0.0/8100-8102:10.89.0.2/8100-8102", str(control)]
    with podman.namespace() as netns:
        done = podman.call(
            "pasta", "--config-net", "--pid", str(pid_file), "-c", str(control), "--map-guest-addr", "169.254.1.2",
            "--map-guest-addr", "fc00::2", "--address", "fc00::3", "--gateway", "fc00::1", "--dns-forward",
            "169.254.1.1", "-t", "none", "-u", "none", "-T", "none", "-U", "none", "--no-map-gw", "--quiet", "--netns",
            str(netns),
        )  # fmt: skip
        assert (done.status, done.output, done.errors) == (0, "", "")
        with ended(pid_file), greeting(podman.within(netns), 80):
            assert addresses(podman, netns) == {HOST4, "fc00::3"}
            subprocess.run(
                podman.within(netns, "ip", "address", "add", "10.89.0.2/32", "dev", "lo"), check=True, timeout=20
            )
            done = podman.call("pesto", "--add", *ports)
            assert (done.status, done.output, done.errors) == (0, "", "")
            assert heard(podman.lab.upstream, HOST4, 8087) == f"hello {GATEWAY4}"
            done = podman.call("pesto", "--add", "-t", "0.0.0.0/8088:10.89.0.3/80", "-t", "0.0.0.0/8102", str(control))
            assert (done.status, done.output) == (1, "")
            assert is_free(podman.lab, 8088)
            done = podman.call("pesto", "--delete", *ports)
            assert (done.status, done.output, done.errors) == (0, "", "")
            assert is_free(podman.lab, 8087)


def test_an_option_that_podman_does_not_know_we_lack_is_named(podman: Rootless) -> None:
    """Podman looks for these words to leave out what an old pasta does not know."""
    done = podman.call("pasta", "--config-net", "--map-guest-address", "169.254.1.2")
    assert done.status == 1
    assert "unrecognized option '--map-guest-address'" in done.errors


def test_podman_is_told_of_a_port_that_is_taken(podman: Rootless) -> None:
    with podman.namespace() as netns, podman.lab.host.listen("0.0.0.0", 8084):
        done = podman.call(
            "pasta", "--config-net", "-t", "8084-8084:80-80", "-u", "none", "-T", "none", "-U", "none", "--no-map-gw",
            "--quiet", "--netns", str(netns),
        )  # fmt: skip
        assert done.status == 1
        assert "8084" in done.errors
        assert done.errors.count("\n") == 1
        assert not processes_of(str(netns))


def test_podman_info(podman: Rootless) -> None:
    done = podman.call("pasta", "--version")
    assert done.status == 0
    assert done.output.startswith("pasta ")


def test_buildah(lab: Lab, caller: Caller) -> None:
    """A path in /proc: nothing tells of its end but a look now and then."""
    with contained(lab, USER) as container:
        netns = f"/proc/{container.pid}/ns/net"
        done = caller.call(
            "pasta", "--config-net", "-t", "none", "-u", "none", "-T", "none", "-U", "none", "--no-map-gw", "--quiet",
            "--userns", f"/proc/{container.pid}/ns/user", "--netns", netns, user=USER,
        )  # fmt: skip
        assert (done.status, done.output, done.errors) == (0, "", "")
        assert HOST4 in Path(f"/proc/{container.pid}/net/fib_trie").read_text()
    assert gone(netns)


def test_rootlesskit_probes(caller: Caller) -> None:
    assert caller.call("pasta", "--version").status == 0
    assert caller.call("pasta", "--host-lo-to-ns-lo", "--version").status == 0
    assert caller.call("pasta", "--no-such-option", "--version").status != 0


@pytest.mark.parametrize("form", ["process", "namespace"])
def test_rootlesskit(lab: Lab, caller: Caller, form: str) -> None:
    with contained(lab, USER) as child:
        files = (f"--userns=/proc/{child.pid}/ns/user", f"--netns=/proc/{child.pid}/ns/net")
        target = [str(child.pid)] if form == "process" else list(files)
        done = caller.call(
            "pasta", "--stderr", "--ns-ifname=tap0", "--mtu=65520", "--config-net", "--address=10.0.2.100",
            "--netmask=24", "--gateway=10.0.2.2", "--dns-forward=10.0.2.3", "--no-map-gw", "--ipv4-only",
            "--tcp-ports=auto", "--udp-ports=auto", "--host-lo-to-ns-lo", *target, user=USER,
        )  # fmt: skip
        assert (done.status, done.output) == (0, "")
        daemons = processes_of(target[-1])
        shown = says(["nsenter", f"--target={child.pid}", "--net", "ip", "address", "show", "dev", "tap0"])
        assert "inet 10.0.2.100/24" in shown
        assert "mtu 65520" in shown
        assert "inet6" not in shown.replace("inet6 fe80", "")
        with greeting(["nsenter", f"--target={child.pid}", "--net"], 8085):
            assert eventually(lambda: not is_free(lab, 8085), seconds=SOON)
            assert heard(lab.upstream, HOST4, 8085) == f"hello {GATEWAY4}"
            assert heard(lab.host, "127.0.0.1", 8085) == "hello 127.0.0.1"
    assert daemons
    assert eventually(lambda: not any(map(alive, daemons)), seconds=SOON)
    assert is_free(lab, 8085)


@pytest.mark.parametrize("form", ["process", "namespace"])
def test_rootlesskit_2_0(lab: Lab, caller: Caller, form: str) -> None:
    """It makes and configures the interface itself, and keeps the namespace where only its child sees it."""
    with contained(lab, USER) as child:
        inside = as_owner(child, USER)
        script = """
            mount -t tmpfs none /mnt; touch /mnt/netns; mount --bind /proc/self/ns/net /mnt/netns
            ip tuntap add name tap0 mode tap; ip link set tap0 up
            ip address add 10.0.2.100/24 dev tap0; ip route add default via 10.0.2.2 dev tap0
        """
        subprocess.run([*inside, "sh", "-ec", script], check=True, timeout=20)
        files = (f"--userns=/proc/{child.pid}/ns/user", f"--netns=/proc/{child.pid}/root/mnt/netns")
        target = [str(child.pid)] if form == "process" else list(files)
        line = caller.command(
            "pasta", "--foreground", "--stderr", "--ns-ifname=tap0", "--mtu=65520", "--no-dhcp", "--no-ra",
            "--address=10.0.2.100", "--netmask=24", "--gateway=10.0.2.2", "--dns-forward=10.0.2.3", "--no-map-gw",
            "--ipv4-only", "--tcp-ports=auto", "--udp-ports=auto", *target, user=USER,
        )  # fmt: skip
        with running(line, stdin=subprocess.DEVNULL) as pasta, greeting(inside, 8086):
            assert eventually(lambda: not is_free(lab, 8086), seconds=SOON)
            assert heard(lab.upstream, HOST4, 8086) == f"hello {GATEWAY4}"
            time.sleep(1.5)  # its second look at the namespace, whose name means nothing to itself
            assert pasta.poll() is None
            pasta.kill()
            pasta.wait()
            assert gone(target[-1])
            assert is_free(lab, 8086)
