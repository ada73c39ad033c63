"""The command lines of `sansnet run`, `attach`, `serve` and `qemu`."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable

import pytest

from sansnet_cli.attach import parser as attach_parser
from sansnet_cli.attach.parser import parse as parse_attach
from sansnet_cli.ctl import parser as ctl_parser
from sansnet_cli.options.ports import PortOptions
from sansnet_cli.options.records import AttachOptions, CommandLineError, QemuOptions, RunOptions, ServeOptions
from sansnet_cli.qemu import parser as qemu_parser
from sansnet_cli.qemu.parser import parse as parse_qemu
from sansnet_cli.run import parser as run_parser
from sansnet_cli.run.parser import parse as parse_run
from sansnet_cli.serve import parser as serve_parser
from sansnet_cli.serve.parser import parse as parse_serve
from sansnet_cli.serve.serve import check_link
from sansnet_core import UdpFiltering
from sansnet_core.addresses import Endpoint, parse
from sansnet_core.ports import TCP, UDP, parse_all
from sansnet_core.ports import parse as ports
from sansnet_trio.hostinfo import HostError

FOUR = parse("10.0.0.1")
SIX = parse("2001:db8::1")


@pytest.fixture(autouse=True)
def _shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/example")


def test_nothing_means_the_users_shell_and_the_defaults() -> None:
    assert parse_run([]) == parse_run(["--"]) == RunOptions(command=("/bin/example",))


def test_without_a_shell_in_the_environment_there_is_still_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHELL")
    assert parse_run([]).command == ("/bin/sh",)


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["ls"], ("ls",)),
        (["--", "ls", "-la"], ("ls", "-la")),
        (["ls", "-la", "-4"], ("ls", "-la", "-4")),
        (["ls", "--help"], ("ls", "--help")),
        (["-v", "ls", "-v"], ("ls", "-v")),
        (["-m", "1500", "--", "-odd-", "x"], ("-odd-", "x")),
        (["sh", "-c", "echo", "--", "x"], ("sh", "-c", "echo", "--", "x")),
        (["--", "--", "x"], ("--", "x")),
        (["env", "--", "x"], ("env", "--", "x")),
        (["--dns=none", "ls"], ("ls",)),
    ],
)
def test_the_command_begins_at_the_first_word_that_is_no_option(arguments: list[str], command: tuple[str, ...]) -> None:
    assert parse_run(arguments).command == command


def test_options_after_the_command_are_the_commands() -> None:
    assert parse_run(["ls", "-v"]) == RunOptions(command=("ls", "-v"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-4"], {"families": frozenset({4})}),
        (["--ipv6-only"], {"families": frozenset({6})}),
        (["-a", "10.0.0.1/24", "--address", "2001:db8::1"], {"own": ((FOUR, 24), (SIX, None))}),
        (["-a", "10.0.0.1", "-n", "255.255.240.0"], {"own": ((FOUR, None),), "netmask": 20}),
        (["--netmask=24"], {"netmask": 24}),
        (["-g", "2001:db8::1", "--gateway=10.0.0.1"], {"gateways": (SIX, FOUR)}),
        (["-m1400"], {"mtu": 1400}),
        (["--mtu", "68"], {"mtu": 68}),
        (["-i", "eth0", "-I", "guest0"], {"interface": "eth0", "ifname": "guest0"}),
        (["-o", "10.0.0.1", "--outbound", "2001:db8::1"], {"outbound": (FOUR, SIX)}),
        (["--map-host-loopback", "10.0.0.1"], {"map_host_loopback": (FOUR,)}),
        (["--map-host-loopback", "none", "--map-guest-addr", "none", "--no-map-gw"], {}),
        (["--map-guest-addr", "10.0.0.1", "--map-guest-addr", "2001:db8::1"], {"map_guest_address": (FOUR, SIX)}),
        (["--outbound-if4", "eth0", "--outbound-if6", "eth1"], {"outbound_if4": "eth0", "outbound_if6": "eth1"}),
        (["--dns-forward", "10.0.0.1", "--dns-host", "127.0.0.53"], {
            "dns_forward": (FOUR,), "dns_host": (Endpoint(parse("127.0.0.53"), 53),)
        }),
        (["--dns-host", "127.0.0.1:5353", "--dns-host", "[2001:db8::1]:65535"], {
            "dns_host": (Endpoint(parse("127.0.0.1"), 5353), Endpoint(SIX, 65535))
        }),
        (["--dns-host", "2001:db8::1"], {"dns_host": (Endpoint(SIX, 53),)}),
        (["--dns-host", "[2001:db8::1]"], {"dns_host": (Endpoint(SIX, 53),)}),
        (["--host", "db=10.0.0.1", "--host", "DB.Example.=2001:db8::1", "--host", "a_b-c=[2001:db8::1]"], {
            "hosts": (("db", FOUR), ("db.example", SIX), ("a_b-c", SIX))
        }),
        (["--host", "db:10.0.0.1", "--host", "db:2001:db8::1", "--host=h:host-gateway", "--host", "h=host-gateway"], {
            "hosts": (("db", FOUR), ("db", SIX), ("h", None), ("h", None))
        }),
        (["--add-host", "db:10.0.0.1"], {"hosts": (("db", FOUR),)}),
        (["-D", "10.0.0.1", "-D", "2001:db8::1"], {"dns": (FOUR, SIX)}),
        *((["-D", "127.0.0.1", "-D", "::1", "-U", spec], {
            "dns": (parse("127.0.0.1"), parse("::1")), "ports": PortOptions(forwards=ports(spec, UDP, inbound=False))
        }) for spec in ("53", "53:5353", "50-60", "all", "auto")),
        (["-D", "none", "-S", "none"], {"dns": (), "search": ()}),
        (["-S", "a.example", "--search", "b.example."], {"search": ("a.example", "b.example.")}),
        (["-H", "host-1.example"], {"hostname": "host-1.example"}),
        (["--ns-mac-addr", "02:00:00:00:00:0a"], {"mac": bytes.fromhex("02000000000a")}),
        (["-p", "x.pcap"], {"pcap": "x.pcap"}),
        (["-t", "80", "-u53", "--tcp-ns=81:82", "-U", "none"], {
            "ports": PortOptions(forwards=(*ports("80", TCP), *ports("53", UDP), *ports("81:82", TCP, inbound=False)))
        }),
        (["--tcp-ports", "80", "-t", "auto"], {"ports": PortOptions(forwards=parse_all(["80", "auto"], TCP))}),
        (["--freebind", "--no-splice"], {"ports": PortOptions(freebind=True, splice=False)}),
        (["--host-lo-to-ns-lo"], {"ports": PortOptions(to_loopback=True)}),
        (["--no-tcp", "--no-udp", "--no-icmp"], {"tcp": False, "udp": False, "icmp": False}),
        (["--memory", "64M", "--keep-udp-ports"], {"memory": 64 << 20, "keep_udp_ports": True}),
        (["--memory", "16777216"], {"memory": 16 << 20}),
        (["--memory", "2GiB"], {"memory": 2 << 30}),
        (["--udp-filtering", "endpoint-independent"], {}),
        (["--udp-filtering", "address-dependent"], {"udp_filtering": UdpFiltering.ADDRESS_DEPENDENT}),
        (["--udp-filtering=address-and-port-dependent"], {"udp_filtering": UdpFiltering.ADDRESS_AND_PORT_DEPENDENT}),
        (["--no-dhcp", "--no-ndp", "--no-config", "--verbose"], {
            "dhcp": False, "dhcp6": False, "ndp": False, "configure": False, "verbose": True, "notices": True,
        }),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_each_option_is_understood(arguments: list[str], expected: dict[str, object]) -> None:
    assert parse_run([*arguments, "ls"]) == RunOptions(command=("ls",), **expected)  # type: ignore[arg-type]  # as keywords


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-4", "-6"], ["-4", "-6"]),
        (["--memory", "64"], ["--memory", "'64'", "8M or more"]),
        (["--memory", "much"], ["--memory", "'much'", "64M or 1G"]),
        (["-a", "10.0.0.1/24", "-n", "24"], ["-n", "-a"]),
        (["-a", "10.0.0.1", "-a", "10.0.0.2"], ["-a", "IPv4"]),
        (["-g", "fe80::1", "-g", "fe80::2"], ["-g", "IPv6"]),
        (["-a", "10.0.0.1/0"], ["-a", "10.0.0.1/0", "between 1 and 32"]),
        (["-a", "2001:db8::/129"], ["-a", "between 1 and 128"]),
        (["-a", "fe80::1%eth0"], ["-a", "fe80::1%eth0"]),
        (["-a", "224.0.0.1"], ["-a", "224.0.0.1"]),
        (["-g", "255.255.255.255"], ["-g", "255.255.255.255"]),
        (["-n", "0.0.0.255"], ["-n", "0.0.0.255"]),
        (["-n", "0"], ["-n", "'0'"]),
        (["--udp-filtering", "none"], ["--udp-filtering", "'none'", "address-dependent"]),
        (["-m", "67"], ["-m", "67", "68"]),
        (["-m", "65522"], ["-m", "65522", "65521"]),
        (["-m", "1_400"], ["-m", "1_400"]),
        (["-6", "-m", "1279"], ["-m 1279", "1280"]),
        (["-D", "none", "-D", "10.0.0.1"], ["-D"]),
        (["-S", "a..b"], ["-S", "a..b"]),
        (["-H", ""], ["-H", "1 to 64"]),
        (["-I", "lo"], ["-I", "lo"]),
        (["-I", "eth%d"], ["-I", "eth%d"]),
        (["--ns-mac-addr", "00:00:00:00:00:00"], ["--ns-mac-addr"]),
        (["--dns-host", "::"], ["--dns-host"]),
        (["--dns-host", "127.0.0.1:0"], ["--dns-host", "between 1 and 65535"]),
        (["--dns-host", "127.0.0.1:65536"], ["--dns-host", "between 1 and 65535"]),
        (["--dns-host", "127.0.0.1:"], ["--dns-host", "between 1 and 65535"]),
        (["--dns-host", "127.0.0.1:53x"], ["--dns-host", "between 1 and 65535"]),
        (["--dns-host", "[::1]53"], ["--dns-host", "[::1]:5353"]),
        (["--dns-host", "[127.0.0.1]:53"], ["--dns-host", "[::1]:5353"]),
        (["--dns-host", ""], ["--dns-host"]),
        (["--host", "db"], ["--host", "db.example=192.0.2.7"]),
        (["--host", "=10.0.0.1"], ["--host", "'=10.0.0.1'"]),
        (["--host", "db="], ["--host", "'db='"]),
        (["--host", "10.0.0.1=db"], ["--host", "NAME=ADDR"]),
        (["--host", "10.0.0.1:db"], ["--host", "NAME=ADDR"]),
        (["--host", "2001:db8::1=db"], ["--host", "NAME=ADDR"]),
        (["--host", "a b=10.0.0.1"], ["--host", "begin with a name"]),
        (["--host", "a..b=10.0.0.1"], ["--host", "begin with a name"]),
        (["--host", "db=gateway"], ["--host", "'gateway'", "host-gateway"]),
        (["--host", "db=[10.0.0.1"], ["--host", "'[10.0.0.1'"]),
        ([f"--host=db=10.0.0.{number}" for number in range(9)], ["--host", "db", "8"]),
        (["-D", "127.0.0.1"], ["-D 127.0.0.1", "-U 53"]),
        (["-D", "::1", "-T", "53", "-U", "54"], ["-D ::1", "-U 53"]),
        (["-D", "127.0.0.1", "-u", "53"], ["-D 127.0.0.1", "-U 53"]),
        (["-D", "127.0.0.1", "-U", "~53"], ["-D 127.0.0.1", "-U 53"]),
        (["-D", "0.0.0.0"], ["-D", "0.0.0.0"]),
        (["--map-guest-addr", "127.0.0.2"], ["--map-guest-addr", "127.0.0.2", "169.254.1.2"]),
        (["--map-host-loopback", "::1"], ["--map-host-loopback", "'::1'", "169.254.1.2"]),
        (["--map-guest-addr", "none", "--map-guest-addr", "10.0.0.1"], ["--map-guest-addr none"]),
        (["--map-host-loopback", "10.0.0.1", "--map-host-loopback", "10.0.0.2"], ["--map-host-loopback", "IPv4"]),
        (["--outbound-if4", "no/name"], ["--outbound-if4", "no/name"]),
        (["-m"], ["-m"]),
        (["--no"], ["--no"]),
        (["--verb"], ["--verb"]),
        (["--ns-mac-addr", "00:00:00:00:00:00"], ["--ns-mac-addr", "all-zero"]),
        (["-I", "."], ["-I", "'.'"]),
        (["-t", "0", "true"], ["-t:", "'0'", "between 1 and 65535"]),
        (["-u80:a"], ["-u:", "'80:a'"]),
        (["-t", "80", "--tcp-ports", "80:81"], ["-t:", "leave one out"]),
        (["-T", "127.0.0.1/80"], ["-T:", "slash"]),
        (["--udp-ns", "80", "-U", "none"], ["-U:", "none"]),
        (["--no-splice", "--host-lo-to-ns-lo"], ["--no-splice", "--host-lo-to-ns-lo"]),
        (["--config-net", "true"], ["--config-net:", "--no-config"]),
        (["-qf"], ["-q:", "-v"]),
        (["-f"], ["-f:", "foreground"]),
        (["-Z"], ["-Z"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_bad_option_is_named_in_one_sentence(arguments: list[str], words: list[str]) -> None:
    with pytest.raises(CommandLineError) as caught:
        parse_run(arguments)
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


def test_a_machines_loopback_is_no_name_server_of_its_own() -> None:
    with pytest.raises(CommandLineError, match=r"-D 127\.0\.0\.1 is the machine itself; .* --dns-host 127\.0\.0\.1"):
        parse_serve(["-s", "x", "-D", "127.0.0.1"])


@pytest.mark.parametrize(
    "parser",
    [attach_parser.parser, ctl_parser.parser, qemu_parser.parser, run_parser.parser, serve_parser.parser],
)
def test_the_help_fits_a_terminal_and_breaks_no_option(
    parser: Callable[[], argparse.ArgumentParser], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = parser().format_help().splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if line.endswith("-")]


def test_help_and_version_go_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    for option, text in (("--help", "--map-host-loopback ADDR"), ("-h", "--no-config"), ("--version", "sansnet 0.1.0")):
        with pytest.raises(SystemExit) as caught:
            parse_run([option])
        assert caught.value.code == 0
        assert text in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--socket", "guest.socket"], ServeOptions(socket="guest.socket")),
        (["-s", "x", "-1", "-v"], ServeOptions(socket="x", one_off=True, verbose=True, notices=True)),
        (
            ["-s", "x", "-t", "8080:80", "--freebind"],
            ServeOptions(socket="x", ports=PortOptions(forwards=ports("8080:80", TCP), freebind=True)),
        ),
        (["--fd", "3"], ServeOptions(fd=3)),
        (["--fd", "0"], ServeOptions(fd=0)),
        (["--vhost-user", "-s", "x", "-m", "65535"], ServeOptions(vhost_user=True, socket="x", mtu=65535)),
        (["-F4", "-4", "-m", "1500"], ServeOptions(fd=4, families=frozenset({4}), mtu=1500)),
        (
            ["-s", "x", "-H", "a", "--fqdn", "a.example", "-a", "10.0.0.1", "--no-icmp"],
            ServeOptions(socket="x", hostname="a", fqdn="a.example", own=((FOUR, None),), icmp=False),
        ),
        (["-s", "x", "--allow-unsealed"], ServeOptions(socket="x", allow_unsealed=True)),
    ],
)
def test_what_serves_a_machine(arguments: list[str], expected: ServeOptions) -> None:
    assert parse_serve(arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "either --socket PATH or --fd FD"),
        (["-s", "x", "-F", "3"], "either --socket PATH or --fd FD"),
        (["-s", ""], "is not a path"),
        (["--fd", "2"], "is not the number of a possible descriptor"),
        (["--fd", "x"], "is not the number of a possible descriptor"),
        (["-s", "x", "ls"], "unrecognized arguments: ls"),
        (["-s", "x", "--no-config"], "unrecognized arguments: --no-config"),
        (["-s", "x", "-T", "80"], "-T: sansnet cannot listen on a machine's loopback; .*--map-host-loopback"),
        (["-s", "x", "--udp-ns=80"], "--udp-ns: sansnet cannot listen on a machine's loopback"),
        (["-s", "x", "-f"], "-f: the foreground is the default"),
        (["-s", "x", "-t", "auto"], "^-t auto: sansnet cannot see which ports a machine listens on; name the ports"),
        (
            ["-s", "x", "-u", "auto,~80"],
            "^-u auto: sansnet cannot see which ports a machine listens on; name the ports",
        ),
        (["-s", "x", "-4", "-6"], "-4 and -6 exclude each other"),
        (["-s", "x", "-m", "65536"], "is not between 68 and 65535"),
        (["-s", "x", "-m", "65536", "--vhost-user"], "is not between 68 and 65535"),
        (["-s", "x", "-6", "-m", "1279"], "-m 1279 is too small for IPv6"),
    ],
)
def test_what_cannot_serve_a_machine(arguments: list[str], words: str) -> None:
    with pytest.raises(CommandLineError, match=words):
        parse_serve(arguments)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["123"], AttachOptions(pid=123)),
        (["--netns", "blue"], AttachOptions(netns="blue")),
        (["--netns=/run/netns/x", "--userns", "/y"], AttachOptions(netns="/run/netns/x", userns="/y")),
        (
            ["-4", "-I", "eth0", "--no-netns-quit", "--no-config", "123"],
            AttachOptions(pid=123, families=frozenset({4}), ifname="eth0", ends_with_namespace=False, configure=False),
        ),
        (["123", "-m", "1500", "-v"], AttachOptions(pid=123, mtu=1500, verbose=True, notices=True)),
    ],
)
def test_what_attaches(arguments: list[str], expected: AttachOptions) -> None:
    assert parse_attach(arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "either the PID of a process or --netns"),
        (["123", "--netns", "x"], "either the PID of a process or --netns"),
        (["123", "--userns", "x"], "--userns goes with --netns"),
        (["0"], "is not a process id"),
        (["blue"], "is not a process id; give a network namespace by --netns"),
        (["123", "124"], "unrecognized arguments: 124"),
        (["--netns", ""], "is not a path"),
        (["123", "-f"], "-f: the foreground is the default"),
    ],
)
def test_what_does_not_attach(arguments: list[str], words: str) -> None:
    with pytest.raises(CommandLineError, match=words):
        parse_attach(arguments)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], QemuOptions(vhost_user=True)),
        (["--", "-m", "1G", "--"], QemuOptions(vhost_user=True, arguments=("-m", "1G", "--"))),
        (["disk", "-m", "1G"], QemuOptions(vhost_user=True, arguments=("disk", "-m", "1G"))),
        (
            ["--link", "stream", "-m", "65535", "-v"],
            QemuOptions(vhost_user=False, mtu=65535, verbose=True, notices=True),
        ),
        (["--link", "vhost-user", "--qemu", "./q"], QemuOptions(vhost_user=True, program="./q")),
        (["--allow-unsealed"], QemuOptions(vhost_user=True, allow_unsealed=True)),
    ],
)
def test_what_runs_a_machine(arguments: list[str], expected: QemuOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert parse_qemu(arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-m", "1G"], "'1G' is not a number of bytes; QEMU's own arguments go after --"),
        (["-drive", "disk"], "QEMU's own arguments go after --"),
        (["--link", "tap"], "invalid choice: 'tap'"),
        (["--qemu", ""], "is not a path"),
        (["-m", "65536"], "is not between 68 and 65535"),
    ],
)
def test_what_cannot_run_a_machine(arguments: list[str], words: str) -> None:
    with pytest.raises(CommandLineError) as caught:
        parse_qemu(arguments)
    assert words in str(caught.value)


def test_vhost_user_is_for_one_processor_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert not parse_qemu([]).vhost_user
    check_link(parse_serve(["-s", "x"]))
    with pytest.raises(HostError, match="works on x86-64 only; leave it out"):
        check_link(parse_serve(["-s", "x", "--vhost-user"]))
