"""The options of pasta and passt: the defaults of the originals, and options that exclude each other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from sansnet_cli.compat.log import Level
from sansnet_cli.compat.parsed_options import Information, Misuse, ParsedOptions
from sansnet_cli.compat.request import Process, Request
from sansnet_cli.compat.request import read as understand
from sansnet_cli.options.ports import PortOptions, read_forwards
from sansnet_cli.options.records import AttachOptions, RunOptions, ServeOptions
from sansnet_cli.process.daemon import Identity
from sansnet_core.addresses import Endpoint, parse
from sansnet_core.records import replace

PASST = ServeOptions(map_gateway=True, lenient=True)
AUTO = PortOptions(forwards=read_forwards(*[["auto"]] * 4))
PASTA = RunOptions(
    ports=AUTO, command=("/bin/example", "-l"), configure=False, map_gateway=True, lenient=True, dns=(), search=()
)
NOCOPY = {"configure": True, "advertise_router": False, "copy_routes": False, "copy_addresses": False}
SPAWNED = Process(foreground=True, level=Level.WARNING)


def read(program: str, words: list[str]) -> Request:
    return understand(ParsedOptions(program, words))


@pytest.fixture(autouse=True)
def _shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/example")


def test_passt_without_options_serves_the_first_free_socket_in_the_background() -> None:
    assert read("passt", []) == Request(process=Process(), options=PASST)


def test_pasta_without_options_runs_a_login_shell_that_configures_itself() -> None:
    assert read("pasta", []) == Request(process=SPAWNED, options=PASTA)
    assert [(forward.option, forward.spec()) for forward in PASTA.ports.forwards] == [
        (option, "auto") for option in ("-t", "-u", "-T", "-U")
    ]


def test_pastas_command_begins_at_the_first_word_that_is_no_option() -> None:
    options = read("pasta", ["--config-net", "ls", "-f", "--mtu", "1"]).options
    assert options == replace(PASTA, command=("ls", "-f", "--mtu", "1"), configure=True, advertise_router=False)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("-4", {"families": frozenset({4})}),
        ("--ipv6-only", {"families": frozenset({6})}),
        ("-a 10.0.0.1 -a 10.0.0.2/8 -a 2001:db8::1", {"own": ((parse("10.0.0.2"), 8), (parse("2001:db8::1"), None))}),
        ("-a 10.0.0.1 -n 255.255.0.0", {"own": ((parse("10.0.0.1"), None),), "netmask": 16}),
        ("-g 10.0.0.1 --gateway fe80::1", {"gateways": (parse("10.0.0.1"), parse("fe80::1"))}),
        ("-M 02:00:00:00:00:07", {"gateway_mac": bytes.fromhex("020000000007")}),
        ("-m 1400", {"mtu": 1400}),
        ("-m 0", {"mtu": 1500, "advertise_mtu": False}),
        ("-i eth1", {"interface": "eth1"}),
        ("--outbound-if4 eth2 --outbound-if6 eth3", {"outbound_if4": "eth2", "outbound_if6": "eth3"}),
        ("--outbound-if6 eth3 -i eth1", {"interface": "eth1", "outbound_if6": "eth3"}),
        ("-o 192.0.2.1", {"outbound": (parse("192.0.2.1"),)}),
        ("--no-map-gw", {"map_gateway": False}),
        ("--map-host-loopback none", {"map_gateway": False}),
        ("--map-host-loopback 10.0.0.9", {"map_host_loopback": (parse("10.0.0.9"),)}),
        ("--no-map-gw --map-host-loopback 10.0.0.9", {"map_gateway": False, "map_host_loopback": (parse("10.0.0.9"),)}),
        ("-D none", {"dns": ()}),
        ("-D 10.0.0.1 -D 10.0.0.2", {"dns": (parse("10.0.0.1"), parse("10.0.0.2"))}),
        ("--no-dhcp-dns --no-dhcp-search", {"dns": (), "search": ()}),
        ("-S a.example -S b.example", {"search": ("a.example", "b.example")}),
        ("--search none", {"search": ()}),
        (
            "--dns-forward 10.0.0.1 --dns-host ::1",
            {"dns_forward": (parse("10.0.0.1"),), "dns_host": (Endpoint(parse("::1"), 53),)},
        ),
        ("-H box --fqdn box.example", {"hostname": "box", "fqdn": "box.example"}),
        ("--no-tcp --no-udp", {"tcp": False, "udp": False}),
        ("--no-icmp", {"icmp": False, "ndp": False}),
        ("--no-dhcp", {"dhcp": False}),
        ("--no-dhcpv6 --no-ra", {"dhcp6": False, "advertise_router": False}),
        ("--no-ndp", {"ndp": False}),
        ("--vhost-user -1", {"vhost_user": True, "one_off": True}),
        ("-F 7", {"fd": 7, "one_off": True}),
        ("-F 0", {"fd": 0, "one_off": True}),
        ("-s /run/x", {"socket": "/run/x"}),
        ("--socket-path /run/y", {"socket": "/run/y"}),
        ("--repair-path none --migrate-exit --migrate-no-linger --chroot-fallback --stderr", {}),
        ("--freebind -t none -u none", {"ports": PortOptions(freebind=True)}),
        ("-t 80 -t 81:8081", {"ports": PortOptions(forwards=read_forwards(["80", "81:8081"]))}),
        ("--map-guest-addr 10.0.0.3", {"map_guest_address": (parse("10.0.0.3"),)}),
        ("--map-guest-addr none", {}),
        ("-d", {"verbose": True, "notices": True}),
        ("--trace", {"verbose": True, "notices": True, "trace": True}),
        ("-f --stats 2", {"stats": 2}),
        ("-c /run/c", {"notices": True, "control": "/run/c"}),
        ("--memory 64M --keep-udp-ports", {"memory": 64 << 20, "keep_udp_ports": True}),
        ("--allow-unsealed", {"allow_unsealed": True}),
    ],
)
def test_an_option_changes_what_it_names(words: str, expected: dict[str, Any]) -> None:
    assert read("passt", words.split()).options == replace(PASST, **expected)


def test_limits_come_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANSNET_MEMORY", "32M")
    monkeypatch.setenv("SANSNET_ALLOW_UNSEALED", "1")
    assert read("passt", []).options == replace(PASST, memory=32 << 20, allow_unsealed=True)
    assert read("passt", ["--memory", "1G"]).options.memory == 1 << 30
    monkeypatch.setenv("SANSNET_ALLOW_UNSEALED", "0")
    monkeypatch.setenv("SANSNET_MEMORY", "much")
    with pytest.raises(Misuse, match="SANSNET_MEMORY 'much' is not a size like 64M or 1G"):
        read("passt", [])
    monkeypatch.setenv("SANSNET_MEMORY", "")
    assert read("passt", []).options == PASST


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--dhcp-dns", {"dns": None}),
        ("--dhcp-search", {"search": None}),
        ("-D 10.0.0.1", {"dns": (parse("10.0.0.1"),)}),
        ("-I eth0 --ns-mac-addr 02:00:00:00:00:01", {"ifname": "eth0", "mac": bytes.fromhex("020000000001")}),
        ("--config-net --no-copy-routes --no-copy-addrs", NOCOPY),
    ],
)
def test_an_option_of_pastas_changes_what_it_names(words: str, expected: dict[str, Any]) -> None:
    assert read("pasta", words.split()).options == replace(PASTA, **expected)


CLOSED = dict.fromkeys(("tcp", "udp", "icmp", "dhcp", "dhcp6", "ndp"), False)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--splice-only --config-net", {"configure": False, "advertise_router": False, **CLOSED}),
        ("--no-splice -t none -u none -T none -U none", {"ports": PortOptions(splice=False)}),
        ("--host-lo-to-ns-lo", {"ports": replace(AUTO, to_loopback=True)}),
        ("-t 80 -u none -T none -U none", {"ports": PortOptions(forwards=read_forwards(["80"]))}),
    ],
)
def test_ports_of_pastas(words: str, expected: dict[str, Any]) -> None:
    assert read("pasta", words.split()).options == replace(PASTA, **expected)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("123", {"pid": 123}),
        ("--config-net 123", {"pid": 123, "configure": True, "advertise_router": False}),
        ("--netns-only 123", {"netns": "/proc/123/ns/net"}),
        ("--userns /u 123", {"netns": "/proc/123/ns/net", "userns": "/u"}),
        ("--netns box", {"netns": "box"}),
        ("--userns /u --netns /n", {"netns": "/n", "userns": "/u"}),
        ("--netns /n --no-netns-quit", {"netns": "/n", "ends_with_namespace": False}),
    ],
)
def test_a_namespace_that_exists_is_joined_in_the_background(words: str, expected: dict[str, Any]) -> None:
    fields = {name: value for name, value in vars(PASTA).items() if name not in ("command", "root", "host_processes")}
    assert read("pasta", words.split()) == Request(process=Process(), options=AttachOptions(**fields | expected))


def test_more_than_a_number_is_a_command() -> None:
    assert read("pasta", ["123", "-x"]).options == replace(PASTA, command=("123", "-x"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("-f", {"foreground": True}),
        ("-q", {"level": Level.WARNING}),
        ("-d", {"level": Level.DEBUG}),
        ("-q -d", {"level": Level.DEBUG}),
        ("--trace -d", {"level": Level.TRACE}),
        ("-P p -l l --log-size 8192", {"pid": "p", "log_file": "l", "log_size": 8192}),
    ],
)
def test_an_option_changes_the_process(words: str, expected: dict[str, Any]) -> None:
    assert read("passt", words.split()).process == replace(Process(), **expected)


def test_another_identity() -> None:
    identity = read("passt", ["--runas", "12:34"]).process.identity
    assert identity is not None
    assert (identity.uid, identity.gid) == (12, 34)


def test_files_are_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = read("passt", ["-s", "socket", "-p", "x.pcap"]).options
    assert isinstance(options, ServeOptions)
    assert (options.socket, options.pcap) == (f"{tmp_path}/socket", f"{tmp_path}/x.pcap")
    assert os.path.isabs(tmp_path)


@pytest.mark.parametrize(
    ("word", "what"), [("-h", "help"), ("--version", "version"), ("--print-c", "print-capabilities")]
)
def test_what_only_asks_is_answered_whatever_follows(word: str, what: str) -> None:
    with pytest.raises(Information, match=f"^{what}$"):
        read("passt", ["-f", word, "--no-such-option"])


@pytest.mark.parametrize(
    ("program", "words", "sentence"),
    [
        ("pasta", "--socket x", "--socket is an option of passt; leave it out"),
        ("pasta", "--vhost-user", "--vhost-user is an option of passt; leave it out"),
        ("passt", "--config-net", "--config-net is an option of pasta; leave it out"),
        ("passt", "-T 1", "--tcp-ns is an option of pasta; leave it out"),
        ("passt", "sh", "'sh' is not an option, and passt takes no other arguments; leave it out"),
        (
            "pasta",
            "--splice-only --no-splice",
            "--splice-only and --no-splice exclude each other; leave out one of them",
        ),
        (
            "pasta",
            "--no-splice --host-lo-to-ns-lo",
            "--host-lo-to-ns-lo and --no-splice exclude each other; leave out one",
        ),
        ("pasta", "--no-copy-routes", "--no-copy-routes needs --config-net"),
        ("pasta", "--no-copy-addrs", "--no-copy-addrs needs --config-net"),
        ("passt", "-n 24 -a 10.0.0.1/8", "--netmask and --address ADDR/LEN both give a mask"),
        ("pasta", "--netns x sh", "--netns and 'sh' both name a namespace to join"),
        ("pasta", "--netns x 12", "--netns and '12' both name a namespace to join"),
        ("pasta", "0", "PID '0' is not a process id"),
        ("pasta", "--userns x", "--userns needs --netns or a process id"),
        ("passt", "-t 80 -t none", "-t: 'none' comes after other ports"),
        ("passt", "-u auto", "-u auto: sansnet cannot see which ports a machine listens on"),
        ("passt", "-t 0", "-t: '0'"),
        ("pasta", "-T 1.2.3.4/80", "-T: '1.2.3.4/80'"),
        ("passt", "-m 65521", "--mtu 65521 is not between 68 and 65520"),
        ("passt", "-6 -m 1279", "--mtu 1279 is not between 1280 and 65520"),
        ("passt", "-g none", "--gateway 'none' is not an IPv4 or IPv6 address"),
        ("passt", "--stats 1 -f", "--stats needs --foreground before it"),
        ("passt", "--log-size 10", "--log-size 10 is less than 4096"),
        ("passt", "--runas no-such-user", "--runas 'no-such-user' is not a user or group of this host"),
        ("pasta", "-4 -6", "--ipv4-only and --ipv6-only exclude each other"),
        ("passt", "-6 --ipv4-only", "--ipv4-only and --ipv6-only exclude each other"),
        ("passt", "-F 2", "--fd '2' is not the number of a possible descriptor"),
        ("passt", "-F 3 -s x", "--socket and --fd exclude each other"),
        ("pasta", "-F 3", "--fd is an option of passt; leave it out"),
        ("passt", "--memory 1M", "--memory '1M' is too little for a network; give 8M or more"),
        ("pasta", "--allow-unsealed", "--allow-unsealed is an option of passt; leave it out"),
        ("passt", "-D= ", "--dns '=' is not an IPv4 or IPv6 address"),
    ],
)
def test_what_means_nothing_is_one_sentence(program: str, words: str, sentence: str) -> None:
    with pytest.raises(Misuse) as caught:
        read(program, words.split())
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("argument", ["a.example b.example", "a.example  b.example "])
def test_qemu_gives_all_domains_in_one_argument(argument: str) -> None:
    assert read("passt", ["--search", argument]).options.search == ("a.example", "b.example")


@pytest.mark.parametrize(("text", "uid", "gid"), [("7", 7, 7), ("7:8", 7, 8), ("root", 0, 0), ("root:9", 0, 9)])
def test_identities(text: str, uid: int, gid: int) -> None:
    made = Identity(text)
    assert (made.uid, made.gid) == (uid, gid)
