"""Services of the host, as a guest finds and reaches them: names, name servers, hints."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.kernel.test_attach import attached, command
from tests.lab import GATEWAY4, HOST4, SERVER4, USER, DnsServer, Lab, Namespace, laboratory, served
from tests.lab.machines import bridged, configured, machine, serving
from tests.lab.namespaces import held_namespace

NAMES: Final = ("host.sansnet.internal", "host.containers.internal", "host.docker.internal")
ALIAS: Final = "10.9.9.9"
ALIAS6: Final = "fd00:9::9"
MAPPED: Final = ("--map-host-loopback", ALIAS, "--map-host-loopback", ALIAS6)


@pytest.fixture
def upstream_dns(lab: Lab, dns: DnsServer) -> Iterator[DnsServer]:
    with dns.on(lab.upstream, SERVER4):
        yield dns


def greets(stream: socket.socket) -> None:
    """Serve one connection of a web server that has one page."""
    stream.recv(4096)
    stream.sendall(b"HTTP/1.0 200 OK\r\n\r\nwelcome\n")


@contextmanager
def website(host: Namespace, address: str) -> Iterator[int]:
    with served(host.listen(address), greets) as port:
        yield port


def hints(text: str) -> list[str]:
    """The hints among what sansnet said."""
    return [line.partition("hint: ")[2] for line in text.splitlines() if line.startswith("sansnet: hint: ")]


# ports of the loopback


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "[::1]"])
def test_a_service_of_one_family_is_reached_on_the_guests_loopback(lab: Lab, address: str, name: str) -> None:
    with website(lab.host, address) as port:
        done = lab.sansnet(["-T", str(port)], ["curl", "-sS", "-m", "20", f"http://{name}:{port}/"])
    assert (done.stdout, done.stderr) == ("welcome\n", "")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_guests_service_of_one_family_is_reached_on_the_hosts_loopback(lab: Lab, address: str) -> None:
    with lab.guest("-t", "8123", "--host-lo-to-ns-lo") as guest, served(guest.listen(address, 8123), greets):
        for name in ("127.0.0.1", "[::1]"):
            assert lab.host.run("curl", "-sS", "-m", "20", f"http://{name}:8123/").stdout == "welcome\n"


def test_where_nothing_listens_in_either_family_a_connection_is_reset(lab: Lab) -> None:
    done = lab.sansnet(["-T", "8124"], ["curl", "-sS", "-m", "20", "http://localhost:8124/"])
    assert (done.returncode, done.stdout) == (56, ""), done.stderr


# names, in a command's hosts file


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
@pytest.mark.parametrize("name", NAMES)
def test_a_service_of_the_hosts_loopback_is_reached_by_name(lab: Lab, name: str, user: int | None) -> None:
    with website(lab.host, "127.0.0.1") as port:
        done = lab.sansnet([*MAPPED], ["curl", "-sS", "-m", "20", f"http://{name}:{port}/"], user=user)
    assert (done.stdout, done.stderr) == ("welcome\n", "")


def test_a_service_of_the_hosts_own_address_is_reached_by_name(lab: Lab) -> None:
    with website(lab.host, HOST4) as port:
        done = lab.sansnet(["--map-guest-addr", ALIAS], ["curl", "-sS", "-m", "20", f"http://{NAMES[0]}:{port}/"])
    assert (done.stdout, done.stderr) == ("welcome\n", "")


def test_the_names_mean_the_hosts_loopback_if_both_are_mapped(lab: Lab) -> None:
    options = ["--map-guest-addr", "10.9.9.8", "--map-host-loopback", ALIAS]
    assert lab.sansnet(options, ["getent", "ahostsv4", NAMES[0]]).stdout.split()[0] == ALIAS


def test_names_are_added_to_the_hosts_own_and_replace_them(lab: Lab, tmp_path: Path) -> None:
    own = tmp_path / "hosts"
    own.write_text("127.0.0.1 localhost\n192.0.2.8 Host.Docker.Internal other # a comment\n192.0.2.9 db\n# last")
    options = [
        "--map-host-loopback",
        ALIAS,
        "--host",
        "db=192.0.2.1",
        "--host",
        "db=2001:db8::1",
        "--host",
        "h:host-gateway",
    ]
    done = lab.sansnet(options, ["cat", "/etc/hosts"], before=f"mount --bind {own} /etc/hosts")
    assert done.stdout.splitlines() == [
        "# made by sansnet",
        "192.0.2.1 db",
        "2001:db8::1 db",
        f"{ALIAS} h {' '.join(NAMES)}",
        "127.0.0.1 localhost",
        "192.0.2.8 other",
        "# last",
    ]
    assert "192.0.2.9 db" in own.read_text()


def test_without_names_the_hosts_file_is_the_hosts_own(lab: Lab) -> None:
    before = lab.host.shell("stat -c %d:%i /etc/hosts").stdout
    assert lab.sansnet([], ["stat", "-c", "%d:%i", "/etc/hosts"]).stdout == before


def test_a_host_without_a_hosts_file_is_told_of(lab: Lab, tmp_path: Path) -> None:
    before = f"cp -a /etc/passwd /etc/nsswitch.conf /etc/resolv.conf {tmp_path}; mount --bind {tmp_path} /etc"
    done = lab.sansnet([*MAPPED], ["echo", "begun"], before=before)
    assert done.stdout == "begun\n"
    assert [line for line in done.stderr.splitlines() if "no /etc/hosts" in line]


# names, by DNS


def lookup(guest: Namespace, server: str, name: str, type_: str = "A") -> list[str]:
    """The answer of a name server."""
    done = guest.run("dig", "+tries=1", "+time=10", "+noall", "+answer", "+comments", f"@{server}", name, type_)
    assert "status: NOERROR" in done.stdout, done.stdout
    return [line.split()[-1] for line in done.stdout.splitlines() if line and not line.startswith(";")]


def test_a_machine_finds_the_host_by_name(lab: Lab, upstream_dns: DnsServer) -> None:
    options = [*MAPPED, "--host", "db.example=192.0.2.7"]
    with (
        website(lab.host, "127.0.0.1") as port,
        serving(lab, *options) as server,
        machine() as guest,
        bridged(guest, server.path),
    ):
        configured(guest)
        assert guest.run("curl", "-sS", "-m", "20", f"http://{NAMES[2]}:{port}/").stdout == "welcome\n"
        assert lookup(guest, SERVER4, NAMES[0], "A") == [ALIAS]
        assert lookup(guest, SERVER4, NAMES[0].upper(), "AAAA") == [ALIAS6]
        assert lookup(guest, SERVER4, NAMES[0], "MX") == []
        assert lookup(guest, SERVER4, "db.example") == ["192.0.2.7"]
        assert guest.run("getent", "hosts", "db.example").stdout.split()[0] == "192.0.2.7"
        assert set(upstream_dns.questions) == set()
        assert lookup(guest, SERVER4, "www.lab.example") == [SERVER4]
        assert upstream_dns.questions == ["www.lab.example"]


def test_a_namespace_finds_the_host_by_name(lab: Lab, upstream_dns: DnsServer) -> None:
    with held_namespace() as visited, attached(lab, "--map-host-loopback", ALIAS, str(visited.pid)):
        assert lookup(visited, SERVER4, NAMES[1]) == [ALIAS]
        assert lookup(visited, SERVER4, NAMES[1], "AAAA") == []
    assert upstream_dns.questions == []


def test_a_name_is_answered_by_the_address_that_stands_for_a_name_server(lab: Lab, dns: DnsServer) -> None:
    options = ["--map-host-loopback", ALIAS, "--dns-forward", "10.9.9.53", "--dns-host", "127.0.0.1"]
    with dns.on(lab.host, "127.0.0.1"), held_namespace() as visited, attached(lab, *options, str(visited.pid)):
        assert lookup(visited, "10.9.9.53", NAMES[1]) == [ALIAS]
        assert lookup(visited, "10.9.9.53", "www.lab.example") == [SERVER4]


def test_names_that_no_query_can_ask_for_are_told_of(lab: Lab) -> None:
    with serving(lab, "--host", "db=192.0.2.7", "-D", "none") as server:
        [line] = [line for line in server.said().splitlines() if "--host" in line]
        assert "-D ADDR" in line


def test_a_namespace_that_asks_other_name_servers_is_told_of(lab: Lab, tmp_path: Path) -> None:
    own = tmp_path / "resolv.conf"
    options = ["--map-host-loopback", ALIAS, "--host", "db=host-gateway"]
    for text, words in (
        (f"nameserver {SERVER4}\n", None),
        ("nameserver 192.0.2.53\n", "has other name servers: 192.0.2.53; "),
    ):
        own.write_text(text)
        with held_namespace() as visited:
            visited.run("mount", "--bind", str(own), "/etc/resolv.conf")
            process = subprocess.Popen(
                command(lab, *options, str(visited.pid)), stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
            )
            with process:
                assert process.stderr is not None
                first = process.stderr.readline()
                process.terminate()
        assert words in first if words else first.startswith("sansnet: attached")


# name servers


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_name_server_at_another_port_is_asked_over_udp_and_tcp(lab: Lab, dns: DnsServer, host: str) -> None:
    given = f"[{host}]:5353" if ":" in host else f"{host}:5353"
    script = "for by in notcp tcp; do dig +tries=1 +short +$by www.lab.example; done"
    with dns.on(lab.host, host, port=5353):
        done = lab.sansnet(["-v", "--dns-host", given], ["sh", "-c", script])
    assert done.stdout.split() == [SERVER4, SERVER4]
    assert f"go to {host} port 5353" in done.stderr


@pytest.mark.parametrize("ports", ["53", "auto", "53:5353"])
def test_a_name_server_on_the_guests_loopback_is_the_hosts(dns: DnsServer, ports: str) -> None:
    port = 5353 if ":" in ports else 53
    with laboratory() as lab, dns.on(lab.host, "127.0.0.1", port=port):
        script = "cat /etc/resolv.conf; dig +tries=3 +time=2 +short www.lab.example"
        done = lab.sansnet(["-4", "-D", "127.0.0.1", "-U", ports], ["sh", "-c", script])
    assert "nameserver 127.0.0.1" in done.stdout
    assert done.stdout.split()[-1] == SERVER4, done.stderr


# hints


def test_hints_name_what_would_open_what_was_tried(lab: Lab, upstream_dns: DnsServer) -> None:
    script = f"""
    curl -s -m 5 http://{GATEWAY4}:5432/
    curl -s -m 5 http://{GATEWAY4}:5433/
    getent hosts host.docker.internal
    curl -s -m 1 http://169.254.1.2:5432/
    true
    """
    done = lab.sansnet(["-v"], ["sh", "-c", script])
    gateway, name, elsewhere = hints(done.stderr)
    assert f"{GATEWAY4}:5432 and was refused" in gateway
    assert "-T 5432" in gateway
    assert "--map-host-loopback 169.254.1.2" in gateway
    assert "host.docker.internal" in name
    assert "169.254.1.2:5432" in elsewhere


def test_without_v_there_are_no_hints(lab: Lab) -> None:
    done = lab.sansnet([], ["curl", "-s", "-m", "5", f"http://{GATEWAY4}:5432/"])
    assert done.stderr == ""


def test_the_remedy_of_a_hint_works(lab: Lab) -> None:
    with website(lab.host, "127.0.0.1") as port:
        tried = lab.sansnet(["-v"], ["curl", "-s", "-m", "5", f"http://{GATEWAY4}:{port}/"])
        [hint] = hints(tried.stderr)
        assert f"use -T {port} and 127.0.0.1 in the guest, or --map-host-loopback 169.254.1.2 and that" in hint
        for options, address in (
            (["-T", str(port)], "127.0.0.1"),
            (["--map-host-loopback", "169.254.1.2"], "169.254.1.2"),
        ):
            assert lab.sansnet(options, ["curl", "-sS", "-m", "20", f"http://{address}:{port}/"]).stdout == "welcome\n"


def test_hints_are_among_the_counters(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "control"
    with lab.guest("-c", str(path)) as guest:
        guest.run("curl", "-s", "-m", "5", f"http://{GATEWAY4}:5432/", check=False)
        line = [sys.executable, "-W", "error", "-m", "sansnet_cli", "ctl", str(path), "counters"]
        shown = lab.host.run(*line, timeout=20).stdout
        answer = json.loads(lab.host.run(*line, "--json").stdout)
    [hint] = answer["hints"]
    assert f"{GATEWAY4}:5432" in hint
    assert shown.splitlines()[-1] == f"hint: {hint}"
