"""The hints for failed attempts of a guest."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import pytest

from sansnet_cli.options.records import CommandOptions
from sansnet_cli.runtime.hints import Hints
from sansnet_core import FlowOpened, FlowRefused, FlowReport, Ipv4Config, Ipv6Config, NameAsked, NetworkConfig, SocketId
from sansnet_core.addresses import Endpoint, parse
from sansnet_core.config import ResolverConfig
from sansnet_core.ports import TCP, UDP, ForwardRule, parse_all
from sansnet_core.records import replace
from sansnet_trio.plan.setup import Setup

GUEST = Endpoint(parse("10.0.0.2"), 40000)
GATEWAY = Endpoint(parse("10.0.0.1"), 5432)
GATEWAY6 = Endpoint(parse("fe80::99"), 5432)
SERVER = Endpoint(parse("127.0.0.53"), 53)
HIS = parse("10.0.0.77")
"""The address of another host."""
CONFIG = NetworkConfig(
    ipv4=Ipv4Config(address=GUEST.address, prefix_length=24, gateway=GATEWAY.address),
    ipv6=Ipv6Config(address=None, gateway=GATEWAY6.address),
)


def make(
    *,
    namespace: bool = True,
    forwards: Sequence[ForwardRule] = (),
    loopback: str = "",
    own: str = "",
    verbose: bool = False,
) -> Hints:
    config = NetworkConfig(
        ipv4=CONFIG.ipv4,
        ipv6=CONFIG.ipv6,
        dns_forward=((GATEWAY.address, SERVER), (parse("169.254.1.1"), SERVER)),
        map_host_loopback=(parse(loopback),) if loopback else (),
        map_guest_address=(parse(own),) if own else (),
    )
    setup = Setup(config=config, interface=None, warnings=())
    return Hints(CommandOptions(verbose=verbose), setup, namespace=namespace, forwards=lambda: forwards)


def refused(
    remote: Endpoint,
    *,
    host: Endpoint | None = None,
    closed: bool = False,
    why: int = errno.ECONNREFUSED,
    udp: bool = False,
) -> FlowRefused:
    return FlowRefused(UDP if udp else TCP, GUEST, remote, None if closed else host or remote, 0 if closed else why)


def hint(hints: Hints, *notices: FlowRefused | NameAsked) -> str:
    """The only hint."""
    hints.add(notices)
    [sentence] = hints.sentences
    return sentence


def test_the_gateway_is_not_the_host() -> None:
    assert hint(make(), refused(GATEWAY), refused(GATEWAY._replace(port=80))) == (
        "the guest tried 10.0.0.1:5432 and was refused: the gateway is not the host; to open the host's loopback port "
        "5432, use -T 5432 and 127.0.0.1 in the guest, or --map-host-loopback 169.254.1.2 and that address"
    )


def test_a_machine_has_no_ports_of_its_loopback() -> None:
    assert hint(make(namespace=False), refused(GATEWAY)).endswith(
        "; to open the host's loopback, use --map-host-loopback 169.254.1.2 and that address"
    )


def test_udp_has_its_own_option() -> None:
    sentence = hint(make(), refused(GATEWAY6, udp=True))
    assert "[fe80::99]:5432 by UDP and was refused" in sentence
    assert "-U 5432 and ::1 in" in sentence


def test_what_is_open_already_is_named() -> None:
    forwards = parse_all(["6432:5432"], TCP, inbound=False)
    assert hint(make(forwards=forwards), refused(GATEWAY)).endswith(
        "; -T opens the host's loopback port 5432 at 127.0.0.1:6432 in the guest"
    )
    assert hint(make(forwards=forwards, loopback="10.9.9.9"), refused(GATEWAY)).endswith(
        "; the host's loopback is 10.9.9.9 in this guest"
    )


@pytest.mark.parametrize(
    ("why", "words"),
    [
        (errno.ETIMEDOUT, "had no answer"),
        (0, "had no answer"),
        (errno.EHOSTUNREACH, "failed (No route to host)"),
        (errno.ECONNREFUSED, "was refused"),
    ],
)
def test_what_became_of_it_is_said(why: int, words: str) -> None:
    assert f"10.0.0.1:5432 and {words}: " in hint(make(), refused(GATEWAY, why=why))


@pytest.mark.parametrize("address", ["169.254.1.2", "10.0.2.2", "172.17.0.1", "192.168.65.254"])
def test_the_hosts_address_in_other_networks(address: str) -> None:
    assert f"{address} is the host in networks of " in hint(make(), refused(Endpoint(parse(address), 80)))


def test_a_closed_address() -> None:
    assert "127.0.0.9:80 and was refused: that is not an address outside the guest" in hint(
        make(), refused(Endpoint(parse("127.0.0.9"), 80), closed=True)
    )


def test_where_nothing_listens_on_the_hosts_loopback() -> None:
    remote, host = Endpoint(parse("10.9.9.9"), 80), Endpoint(parse("127.0.0.1"), 80)
    sentence = hint(make(loopback="10.9.9.9"), refused(remote, host=host))
    assert sentence.endswith("was refused: nothing listens on the host's 127.0.0.1:80")


def test_where_nothing_listens_on_the_hosts_own_address() -> None:
    remote = Endpoint(parse("169.254.1.2"), 80)
    sentence = hint(make(own="169.254.1.2"), refused(remote, host=Endpoint(GUEST.address, 80)))
    assert "nothing listens on port 80 of the host's own address; to open" in sentence
    assert "--map-host-loopback 169.254.1.3" in sentence


def test_a_name_that_our_resolver_looks_up_is_not_the_host() -> None:
    config = replace(CONFIG, resolver=ResolverConfig(), hosts=(("Host.Docker.Internal.", ()),))
    setup = Setup(config=config, interface=None, warnings=())
    hints = Hints(CommandOptions(), setup, namespace=True, forwards=lambda: ())
    hints.add([NameAsked("packages.example.org", answered=False)])
    assert hints.sentences == []
    hints.add([NameAsked("host.docker.internal", answered=False)])
    assert len(hints.sentences) == 1


def test_a_name_of_the_host_without_an_address() -> None:
    hints = make()
    hints.add([NameAsked("host.docker.internal", answered=True)])
    assert hints.sentences == []
    assert hint(hints, NameAsked("host.docker.internal", answered=False), NameAsked("other", answered=False)) == (
        "the guest looked up host.docker.internal, which has no address here; --map-host-loopback 169.254.1.2 makes it "
        "the host"
    )


@pytest.mark.parametrize(
    "nothing",
    [
        refused(Endpoint(HIS, 80)),
        refused(Endpoint(parse("169.254.169.254"), 80)),
        refused(Endpoint(parse("fe80::1234"), 80)),
        refused(GATEWAY._replace(port=53), host=Endpoint(parse("127.0.0.1"), 5353)),
        refused(Endpoint(parse("169.254.1.1"), 53), host=Endpoint(HIS, 53)),
        refused(Endpoint(parse("169.254.1.1"), 80)),
        refused(Endpoint(parse("10.9.9.9"), 53), host=Endpoint(HIS, 53)),
        FlowOpened(SocketId(1), TCP, GUEST, GATEWAY, GATEWAY),
    ],
)
def test_what_is_nothing_special(nothing: FlowRefused) -> None:
    hints = make(loopback="10.9.9.9")
    hints.add([nothing])
    assert hints.sentences == []


@pytest.mark.parametrize(("state", "inbound", "count"), [("SYN_RECEIVED", False, 1), ("ESTABLISHED", False, 0)])
def test_what_has_no_answer_at_the_end(state: str, inbound: bool, count: int) -> None:
    hints = make()
    hints.end([FlowReport(SocketId(1), TCP, GUEST, GATEWAY, GATEWAY, inbound, state, 0, 0)])
    assert len(hints.sentences) == count


def test_each_kind_is_said_once_if_that_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    hints = make(verbose=True)
    hints.add([refused(GATEWAY), refused(GATEWAY), NameAsked("host.docker.internal", answered=False)])
    said = capsys.readouterr().err.splitlines()
    assert [line[:14] for line in said] == ["sansnet: hint:"] * 2
    make().add([refused(GATEWAY)])
    assert capsys.readouterr().err == ""
