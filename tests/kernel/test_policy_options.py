"""Policies on the command line, in real guests: what is allowed is reached, and nothing else.

Each test first lets a guest without a policy reach what it closes, so that a refusal means something.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import pytest
import trustme

from tests.kernel.test_attach import attached
from tests.kernel.test_host_services import greets
from tests.lab import SERVER4, DnsServer, Lab, served
from tests.lab.callers import Caller
from tests.lab.machines import bridged, configured, machine, serving
from tests.lab.namespaces import Namespace, held_namespace

PACKAGES4: Final = "20.0.0.10"
PACKAGES6: Final = "2a01::10"
"""Public addresses of upstream's, as far as groups of addresses go."""
OTHER4: Final = "20.0.0.20"
INSIDE4: Final = "10.7.7.7"
PORT: Final = 8123
PACKAGES: Final = "packages.example.org"
OTHER: Final = "other.example.org"
INSIDE: Final = "inside.example.org"
ZONE: Final = {
    (PACKAGES, "A"): [PACKAGES4],
    (PACKAGES, "AAAA"): [PACKAGES6],
    (OTHER, "A"): [OTHER4],
    (INSIDE, "A"): [INSIDE4],
}

UNRESOLVED: Final = 6
REFUSED: Final = 7
"""Exit statuses of curl."""


class World:
    """The servers that guests may reach.

    Attributes:
        dns: the name server of the host.
    """

    def __init__(self, lab: Lab, dns: DnsServer) -> None:
        self.lab = lab
        self.dns = dns

    def fetch(self, options: list[str], host: str, port: int = PORT) -> int:
        """The exit status of curl in a guest with these options, for http://HOST:PORT/."""
        url = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
        done = self.lab.sansnet(options, ["curl", "-sS", "-m", "20", url])
        assert (done.stdout == "welcome\n") == (done.returncode == 0), done.stderr
        return done.returncode


@pytest.fixture(scope="module")
def world(lab: Lab) -> Iterator[World]:
    dns = DnsServer(ZONE)
    listeners = [(PACKAGES4, PORT), (PACKAGES6, PORT), (OTHER4, PORT), (INSIDE4, PORT), (OTHER4, 80)]
    added = [f"{PACKAGES4}/32", f"{OTHER4}/32", f"{INSIDE4}/32", f"{PACKAGES6}/128"]
    with ExitStack() as stack:
        for address in added:
            lab.upstream.run("ip", "address", "add", address, "dev", "lo", *(["nodad"] if ":" in address else []))
            stack.callback(lab.upstream.run, "ip", "address", "delete", address, "dev", "lo")
        stack.enter_context(dns.on(lab.upstream, SERVER4))
        for where in listeners:
            stack.enter_context(served(lab.upstream.listen(*where), greets))
        yield World(lab, dns)


@pytest.fixture
def file(lab: Lab) -> Iterator[Path]:
    """A policy in a directory of its own."""
    with tempfile.TemporaryDirectory(dir=lab.directory) as name:
        path = Path(name) / "policy.toml"
        path.write_text(f'default = "refuse"\nrules = ["allow tcp {PACKAGES}:{PORT}"]\n')
        yield path


def test_without_a_policy_all_is_reached(world: World) -> None:
    for host in (PACKAGES, OTHER, INSIDE, PACKAGES4, PACKAGES6, OTHER4):
        assert world.fetch([], host) == 0
    assert world.fetch([], OTHER, 80) == 0


def test_one_name_and_port_is_allowed_and_nothing_else(world: World) -> None:
    allowed = ["--allow", f"{PACKAGES}:{PORT}"]
    assert world.fetch(allowed, PACKAGES) == 0
    world.dns.questions.clear()
    assert world.fetch(allowed, OTHER) == UNRESOLVED
    assert OTHER not in world.dns.questions
    for bare in (PACKAGES4, PACKAGES6, OTHER4, INSIDE4):
        assert world.fetch(allowed, bare) == REFUSED
    assert world.fetch(allowed, PACKAGES, PORT + 1) == REFUSED


@pytest.mark.parametrize("family", ["-4", "-6"])
def test_a_name_is_reached_by_each_family(world: World, family: str) -> None:
    command = ["curl", "-sS", "-m", "20", family, f"http://{PACKAGES}:{PORT}/"]
    done = world.lab.sansnet(["--allow", f"{PACKAGES}:{PORT}"], command)
    assert (done.stdout, done.returncode) == ("welcome\n", 0), done.stderr


@pytest.mark.parametrize("names", ["own", "real"])
def test_the_guest_sees_the_addresses_of_the_kind(world: World, names: str) -> None:
    options = ["--allow", f"{PACKAGES}:{PORT}", "--names", names]
    done = world.lab.sansnet(options, ["getent", "ahostsv4", PACKAGES])
    seen = done.stdout.split()[0]
    assert (seen == PACKAGES4) == (names == "real"), done.stderr
    assert world.fetch(options, PACKAGES) == 0


def test_a_name_inside_needs_its_prefix(world: World) -> None:
    assert world.fetch(["--allow", f"{INSIDE}:{PORT}"], INSIDE) in (UNRESOLVED, REFUSED)
    assert world.fetch(["--allow", f"{INSIDE}:{PORT}", "--allow", f"10.0.0.0/8:{PORT}"], INSIDE) == 0


def test_refusals_leave_the_rest_open(world: World) -> None:
    options = ["--refuse", "20.0.0.20/32"]
    assert world.fetch(options, OTHER4) == REFUSED
    assert world.fetch(options, PACKAGES) == 0


def test_the_first_rule_decides(world: World) -> None:
    assert world.fetch(["--allow", "20.0.0.0/8", "--refuse", OTHER4], OTHER4) == 0
    assert world.fetch(["--refuse", OTHER4, "--allow", "20.0.0.0/8"], OTHER4) == REFUSED


def test_presets(world: World) -> None:
    assert world.fetch(["--preset", "none"], OTHER4, 80) == REFUSED
    assert world.fetch(["--preset", "web"], OTHER, 80) == 0
    assert world.fetch(["--preset", "web"], OTHER4) == REFUSED
    assert world.fetch(["--preset", "public"], OTHER) == 0
    assert world.fetch(["--preset", "public"], INSIDE) == REFUSED
    assert world.fetch(["--preset", "open"], INSIDE) == 0


def test_rules_of_a_file(world: World, file: Path) -> None:
    assert world.fetch(["--policy", str(file)], PACKAGES) == 0
    assert world.fetch(["--policy", str(file)], OTHER4) == REFUSED
    assert world.fetch(["--policy", str(file), "--allow", f"{OTHER}:{PORT}"], OTHER) == 0


def test_a_wrong_file_starts_nothing(world: World, file: Path) -> None:
    file.write_text("rules = [1]\n")
    done = world.lab.sansnet(["--policy", str(file)], ["echo", "started"])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"sansnet: {file}:1: ")


def test_forwarded_ports_are_open(world: World) -> None:
    options = ["--allow", PACKAGES, "-t", str(PORT)]
    with (
        world.lab.guest(*options, warning="let in connections to 1 port") as guest,
        served(guest.listen("::", PORT), greets),
    ):
        assert world.lab.host.run("curl", "-sS", "-m", "20", f"http://127.0.0.1:{PORT}/").stdout == "welcome\n"
    with served(world.lab.host.listen("127.0.0.1"), greets) as port:
        assert world.fetch(["--preset", "none", "-T", str(port)], "127.0.0.1", port) == 0


def test_an_audit_has_each_decision_and_a_learnt_policy_suffices(world: World, file: Path) -> None:
    audit, learnt = file.with_name("audit.jsonl"), file.with_name("learnt.toml")
    assert world.fetch(["--audit", str(audit), "--learn", str(learnt)], PACKAGES) == 0
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    assert any(line.get("name") == PACKAGES for line in lines), lines
    check = [sys.executable, "-m", "sansnet_cli", "policy"]
    assert subprocess.run([*check, "check", learnt], check=False, timeout=60).returncode == 0
    done = subprocess.run([*check, "explain", learnt, f"{PACKAGES}:{PORT}"], check=False, timeout=60)
    assert done.returncode == 0
    assert world.fetch(["--policy", str(learnt)], PACKAGES) == 0
    assert world.fetch(["--policy", str(learnt)], OTHER) == UNRESOLVED


@pytest.fixture(scope="module")
def authority(world: World) -> Iterator[Path]:
    """Serve TLS at port 443 of PACKAGES4; the certificate of the authority, which signs for both names."""
    made = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.issue_cert(PACKAGES, OTHER).configure_cert(context)

    def serve(stream: socket.socket) -> None:
        stream.recv(1, socket.MSG_PEEK)  # a connection that is reset ends here: `wrap_socket` would leave a socket open
        with context.wrap_socket(stream, server_side=True, do_handshake_on_connect=False) as secured:
            secured.do_handshake()
            greets(secured)

    path = world.lab.directory / "authority.pem"
    path.write_bytes(made.cert_pem.bytes())
    with served(world.lab.upstream.listen(PACKAGES4, 443), serve):
        yield path


def test_tls_must_name_the_server_that_it_connects_to(world: World, authority: Path) -> None:
    def fetch(options: list[str], name: str) -> int:
        """The exit status of a TLS connection to the address of PACKAGES that names another server."""
        to = f"{name}:443:{PACKAGES}:443"
        command = ["curl", "-4", "-sS", "-m", "20", "--cacert", str(authority), "--connect-to", to, f"https://{name}/"]
        return world.lab.sansnet(options, command).returncode

    assert fetch([], PACKAGES) == fetch([], OTHER) == 0
    assert fetch(["--allow", f"{PACKAGES}:443"], PACKAGES) == 0
    assert fetch(["--allow", f"{PACKAGES}:443"], OTHER) != 0
    assert fetch(["--allow", f"{PACKAGES}:443 check=none"], OTHER) == 0


class Proxy:
    """A SOCKS5 proxy without authentication (RFC 1928) that connects to the addresses of `ZONE`.

    Attributes:
        asked: the destinations so far.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.asked: list[tuple[str, int]] = []

    def serve(self, client: socket.socket) -> None:
        """Serve one connection."""
        file = client.makefile("rb")
        file.read(file.read(2)[1])
        client.sendall(b"\x05\x00")
        kind = file.read(4)[3]
        name = kind == 3
        raw = file.read(file.read(1)[0] if name else {1: 4, 4: 16}[kind])
        host = raw.decode() if name else str(ip_address(raw))
        [port] = struct.unpack("!H", file.read(2))
        self.asked.append((host, port))
        with self._lab.upstream.connect(ZONE[host, "A"][0] if name else host, port) as server:
            client.sendall(b"\x05\x00\x00\x01" + bytes(6))
            server.sendall(client.recv(4096))
            while data := server.recv(4096):
                client.sendall(data)


def test_a_proxy_carries_all_that_is_allowed_with_its_name(world: World) -> None:
    proxy = Proxy(world.lab)
    with served(world.lab.upstream.listen(OTHER4), proxy.serve) as port:
        options = ["--proxy", f"socks5://{OTHER4}:{port}"]
        world.dns.questions.clear()
        assert world.fetch([*options, "--allow", f"{PACKAGES}:{PORT}"], PACKAGES) == 0
        assert world.fetch([*options, "--allow", f"{PACKAGES}:{PORT}"], PACKAGES4) == REFUSED
        assert world.fetch(options, PACKAGES4) == 0
    assert proxy.asked == [(PACKAGES, PORT), (PACKAGES4, PORT)]
    assert world.dns.questions == []


def test_an_attached_namespace_has_a_policy(world: World) -> None:
    with held_namespace() as visited:
        world.lab.host.run("true")
        with attached(world.lab, "--allow", f"20.0.0.10:{PORT}", str(visited.pid)):
            assert fetched(visited, PACKAGES4) == 0
            assert fetched(visited, OTHER4) == REFUSED


def test_a_machine_has_a_policy(world: World) -> None:
    with (
        serving(world.lab, "--allow", f"{PACKAGES}:{PORT}", "--allow", INSIDE4) as server,
        machine() as guest,
        bridged(guest, server.path),
    ):
        configured(guest)
        assert fetched(guest, PACKAGES) == 0
        assert fetched(guest, INSIDE4) == 0
        assert fetched(guest, OTHER) == UNRESOLVED
        assert fetched(guest, OTHER4) == REFUSED


def fetched(namespace: Namespace, host: str) -> int:
    """The exit status of curl in a namespace."""
    return namespace.run("curl", "-sS", "-m", "20", f"http://{host}:{PORT}/", check=False).returncode


def pasta(world: World, options: list[str], host: str, **variables: str) -> int:
    """The exit status of curl in a guest of `pasta` with these options and variables of the environment."""
    with tempfile.TemporaryDirectory(dir=world.lab.directory) as name:
        line = Caller(world.lab, Path(name)).command(
            "pasta", "--config-net", *options, "--", "curl", "-sS", "-m", "20", f"http://{host}:{PORT}/"
        )
        at = line.index("env") + 1
        environment = [f"{name}={value}" for name, value in variables.items()]
        command = [*line[:at], *environment, *line[at:]]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60).returncode


@pytest.mark.parametrize("by", ["option", "environment"])
def test_pasta_has_a_policy(world: World, file: Path, by: str) -> None:
    options = ["--policy", str(file)] if by == "option" else []
    variables = {"SANSNET_POLICY": str(file)} if by == "environment" else {}
    assert pasta(world, options, PACKAGES, **variables) == 0
    assert pasta(world, options, OTHER, **variables) == UNRESOLVED
    assert pasta(world, options, OTHER4, **variables) == REFUSED
    with served(world.lab.host.listen("127.0.0.1", PORT), greets):
        assert pasta(world, [], "127.0.0.1") == 0  # by default pasta opens all ports of the host's loopback
        assert pasta(world, options, "127.0.0.1", **variables) == REFUSED
        assert pasta(world, [*options, "-T", str(PORT)], "127.0.0.1", **variables) == 0


def test_pasta_has_an_audit(world: World, file: Path) -> None:
    audit = file.with_name("audit.jsonl")
    assert pasta(world, ["--policy", str(file)], PACKAGES, SANSNET_AUDIT=str(audit)) == 0
    assert pasta(world, ["--policy", str(file), "--audit", str(audit)], OTHER4) == REFUSED
    verdicts = [
        (line.get("name"), line["verdict"])
        for line in map(json.loads, audit.read_text().splitlines())
        if line["kind"] == "flow"
    ]
    assert (PACKAGES, "allow") in verdicts
    assert (None, "refuse") in verdicts


def test_a_command_of_pasta_asks_our_resolver_if_the_hosts_is_on_its_loopback(world: World, file: Path) -> None:
    resolver = "127.0.0.53"
    world.lab.set_resolver(f"nameserver {resolver}")
    try:
        with DnsServer(ZONE).on(world.lab.host, resolver):
            assert pasta(world, ["--policy", str(file)], PACKAGES) == 0
            assert pasta(world, ["--policy", str(file)], OTHER) == UNRESOLVED
    finally:
        world.lab.set_resolver(f"nameserver {SERVER4}", "search lab.example")
