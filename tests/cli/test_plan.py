"""The plan of a guest, from options and the state of the host."""

from __future__ import annotations

from typing import Any

import pytest

from sansnet_cli.compat.parsed_options import ParsedOptions
from sansnet_cli.compat.request import read
from sansnet_cli.options.records import RunOptions
from sansnet_cli.run.parser import parse as parse_run
from sansnet_cli.serve.parser import parse as parse_serve
from sansnet_core import Ipv4Config, Ipv6Config, Limits, NetworkConfig, UdpFiltering
from sansnet_core.address_map import AddressMap
from sansnet_core.addresses import Endpoint, parse, with_zone
from sansnet_core.records import replace
from sansnet_trio.guest.plan import GuestPlan
from sansnet_trio.hostinfo import HostError, HostInfo, InterfaceAddress, Resolvers, Route, Uplink
from sansnet_trio.plan.options import NamespaceOptions, NetworkOptions, OptionsError
from sansnet_trio.plan.setup import Setup, make_plan, make_setup, remembering

UPLINK4 = Uplink(
    interface="wlan0",
    addresses=(InterfaceAddress(parse("10.0.0.2"), 24), InterfaceAddress(parse("10.0.0.3"), 24)),
    routes=(
        Route(destination=bytes(4), prefix_length=0, gateway=parse("10.0.0.1"), metric=600),
        Route(destination=parse("10.0.0.0"), prefix_length=24),
    ),
)
UPLINK6 = Uplink(
    interface="eth6",
    addresses=(InterfaceAddress(parse("2001:db8::2"), 64),),
    routes=(Route(destination=bytes(16), prefix_length=0, gateway=parse("fe80::99"), metric=1024),),
)
RESOLVERS = Resolvers(
    nameservers=(parse("192.0.2.53"), parse("2001:db8::53")), search=("a.example", "."), options=("rotate",)
)
HOST = HostInfo(ipv4=UPLINK4, ipv6=UPLINK6, resolvers=RESOLVERS)
NOTHING = HostInfo()


def plan(*arguments: str, host: HostInfo = HOST) -> tuple[GuestPlan, Setup]:
    options: RunOptions = parse_run([*arguments, "true"])
    return make_plan(options, host)


def zoned(text: str) -> bytes:
    """An address, with the index of an interface as its zone if it has one."""
    plain, _, zone = text.partition("%")
    return with_zone(parse(plain), int(zone or 0))


def resolved_by(*servers: str) -> HostInfo:
    return HostInfo(ipv4=UPLINK4, ipv6=UPLINK6, resolvers=Resolvers(nameservers=tuple(map(parse, servers))))


def test_the_host_is_copied() -> None:
    guest, setup = plan()
    assert guest == GuestPlan(
        interface="wlan0",
        addresses=UPLINK4.addresses + UPLINK6.addresses,
        routes=UPLINK4.routes + UPLINK6.routes,
        resolv_conf=(
            "# made by sansnet\nnameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch a.example\noptions rotate\n"
        ),
    )
    config = setup.config
    assert config.ipv4 == Ipv4Config(address=parse("10.0.0.2"), prefix_length=24, gateway=parse("10.0.0.1"))
    assert config.ipv6 == Ipv6Config(address=parse("2001:db8::2"), gateway=parse("fe80::99"))
    assert (config.dns_servers, config.dns_search) == (RESOLVERS.nameservers, ("a.example",))
    assert (config.dns_forward, config.map_host_loopback) == ((), ())
    assert not config.router_advertisements
    assert (setup.interface, setup.warnings) == ("eth6", ())


def test_a_host_without_a_network_gives_link_local_addresses() -> None:
    guest, setup = plan(host=NOTHING)
    assert guest.interface == "tap0"
    assert guest.addresses == (InterfaceAddress(parse("169.254.2.1"), 16),)
    assert guest.routes == (
        Route(destination=bytes(4), prefix_length=0, gateway=parse("169.254.2.2")),
        Route(destination=bytes(16), prefix_length=0, gateway=parse("fe80::1")),
    )
    assert setup.config.ipv6 == Ipv6Config(address=None, gateway=parse("fe80::1"))
    assert setup.interface is None
    [warning] = setup.warnings
    assert warning.startswith("the host has no network")


@pytest.mark.parametrize("arguments", [[], ["-4"], ["-6"], ["-i", "dummy0"]])
def test_a_host_without_a_network_is_mentioned_once(arguments: list[str]) -> None:
    assert len(plan(*arguments, host=NOTHING)[1].warnings) == 1
    assert len(plan(*arguments, host=HostInfo(resolvers=RESOLVERS))[1].warnings) == 1
    assert plan("-a", "10.9.9.9", "-D", "192.0.2.1", host=NOTHING)[1].warnings == ()


@pytest.mark.parametrize(
    ("arguments", "hosts"),
    [
        ([], ()),
        (["-H", "visitor"], (("10.0.0.2", ("visitor",)), ("2001:db8::2", ("visitor",)))),
        (["-4", "-H", "visitor.example"], (("10.0.0.2", ("visitor.example", "visitor")),)),
        (["-4", "-H", "visitor", "--fqdn", "visitor.example."], (("10.0.0.2", ("visitor.example", "visitor")),)),
        (["-H", "visitor", "--no-config"], (("127.0.1.1", ("visitor",)),)),
    ],
)
def test_a_guests_name_leads_to_its_addresses(
    arguments: list[str], hosts: tuple[tuple[str, tuple[str, ...]], ...]
) -> None:
    assert plan(*arguments)[0].hosts == tuple((parse(address), names) for address, names in hosts)


def test_a_family_that_only_the_guest_has_is_link_local() -> None:
    guest, _ = plan(host=HostInfo(ipv4=UPLINK4, resolvers=RESOLVERS))
    assert guest.addresses == UPLINK4.addresses
    assert guest.routes[-1] == Route(destination=bytes(16), prefix_length=0, gateway=parse("fe80::1"))


def test_given_addresses_leave_nothing_of_the_hosts() -> None:
    guest, setup = plan("-a", "172.16.0.2/16", "-g", "172.16.0.1", "-a", "2001:db8:7::2", "-g", "2001:db8:7::1")
    assert guest.addresses == (InterfaceAddress(parse("172.16.0.2"), 16), InterfaceAddress(parse("2001:db8:7::2"), 64))
    assert guest.routes == (
        Route(destination=bytes(4), prefix_length=0, gateway=parse("172.16.0.1")),
        Route(destination=bytes(16), prefix_length=0, gateway=parse("2001:db8:7::1")),
    )
    assert setup.config.ipv6 == Ipv6Config(address=parse("2001:db8:7::2"), gateway=parse("fe80::1"))


def test_a_gateway_outside_the_network_is_reached_by_a_route_of_its_own() -> None:
    guest, _ = plan("-4", "-a", "172.16.0.2/32")
    assert guest.routes == (
        Route(destination=parse("10.0.0.1"), prefix_length=32),
        Route(destination=bytes(4), prefix_length=0, gateway=parse("10.0.0.1")),
    )


def test_a_given_gateway_keeps_the_addresses_and_drops_the_routes() -> None:
    guest, _ = plan("-4", "-g", "10.0.0.254")
    assert guest.addresses == UPLINK4.addresses
    assert guest.routes == (Route(destination=bytes(4), prefix_length=0, gateway=parse("10.0.0.254")),)


@pytest.mark.parametrize(
    ("arguments", "length"),
    [
        (["-a", "172.16.0.2"], 16),
        (["-a", "10.9.0.2"], 8),
        (["-a", "192.0.2.2"], 24),
        (["-a", "10.9.0.2", "-n", "255.255.0.0"], 16),
        (["-n", "20"], 20),
    ],
)
def test_where_the_mask_comes_from(arguments: list[str], length: int) -> None:
    guest, setup = plan("-4", *arguments)
    [own] = guest.addresses
    assert own.prefix_length == length
    assert setup.config.ipv4 is not None
    assert setup.config.ipv4.prefix_length == length


def test_a_host_without_a_gateway_still_has_a_dhcp_server() -> None:
    direct = Uplink(
        interface="wg0",
        addresses=(InterfaceAddress(parse("10.0.0.2"), 32),),
        routes=(Route(destination=bytes(4), prefix_length=0),),
    )
    guest, setup = plan("-4", host=HostInfo(ipv4=direct, resolvers=RESOLVERS))
    assert guest.routes == direct.routes
    assert setup.config.ipv4 == Ipv4Config(address=parse("10.0.0.2"), prefix_length=32, gateway=parse("169.254.2.2"))


def test_one_family_alone() -> None:
    guest, setup = plan("-4")
    assert not guest.ipv6
    assert setup.config.ipv6 is None
    assert guest.resolv_conf is not None
    assert "2001:" not in guest.resolv_conf
    guest, setup = plan("-6")
    assert guest.ipv6
    assert setup.config.ipv4 is None
    assert guest.interface == "wlan0"


def test_a_small_mtu_turns_ipv6_off_with_a_warning() -> None:
    guest, setup = plan("-m", "1279")
    assert (guest.mtu, guest.ipv6, setup.config.ipv6) == (1279, False, None)
    assert len(setup.warnings) == 1
    assert plan("-m", "1279", "-4")[1].warnings == ()


def test_a_kernel_without_ipv6() -> None:
    host = HostInfo(ipv4=UPLINK4, has_ipv6=False, resolvers=RESOLVERS)
    assert plan(host=host)[1].config.ipv6 is None
    with pytest.raises(HostError, match="no IPv6"):
        plan("-6", host=host)
    with pytest.raises(HostError, match="-a gives"):
        plan("-a", "2001:db8::1", host=host)


@pytest.mark.parametrize(
    "arguments",
    [
        ["-4", "-a", "2001:db8::1"],
        ["-6", "-g", "10.0.0.1"],
        ["-6", "-o", "10.0.0.1"],
        ["-4", "--map-host-loopback", "2001:db8::1"],
        ["-4", "--map-guest-addr", "2001:db8::1"],
        ["-6", "--dns-forward", "10.0.0.1"],
        ["-a", "10.0.0.1"],
        ["-g", "10.0.0.2"],
        ["-4", "-D", "2001:db8::53"],
        ["-6", "-D", "192.0.2.53"],
        ["--map-host-loopback", "10.0.0.2"],
        ["--map-guest-addr", "10.0.0.3"],
        ["--map-host-loopback", "2001:db8::2"],
        ["--map-host-loopback", "192.0.2.9", "--map-guest-addr", "192.0.2.9"],
        ["-a", "10.9.9.9/24", "--map-host-loopback", "10.9.9.9"],
        ["--dns-forward", "10.0.0.2"],
    ],
)
def test_options_that_do_not_fit_together_are_wrong(arguments: list[str]) -> None:
    with pytest.raises(OptionsError):
        plan(*arguments)


@pytest.mark.parametrize(
    ("own", "warns"),
    [
        ("10.9.9.0/24", True),
        ("10.9.9.255/24", True),
        ("10.9.9.8/31", False),
        ("10.9.9.9/32", False),
        ("10.9.9.0/23", False),
    ],
)
def test_an_address_that_no_node_has_is_a_warning(own: str, warns: bool) -> None:
    _, setup = plan("-4", "-a", own, "-g", "10.9.9.1")
    assert [own.partition("/")[0] in warning for warning in setup.warnings] == [True] * warns


def test_an_interface_without_addresses_is_a_warning() -> None:
    _, setup = plan("-i", "dummy0", host=HostInfo(resolvers=RESOLVERS))
    [warning] = setup.warnings
    assert warning.startswith("dummy0 has no address")
    assert plan("-i", "dummy0", "-a", "10.9.9.9", host=HostInfo(resolvers=RESOLVERS))[1].warnings == ()


@pytest.mark.parametrize(
    ("servers", "told", "forward"),
    [
        (["192.0.2.1", "2001:db8::53", "192.0.2.2", "192.0.2.3"], None, {}),
        (["127.0.0.53"], ["169.254.53.1"], {"169.254.53.1": "127.0.0.53"}),
        (["10.0.0.3"], ["169.254.53.1"], {"169.254.53.1": "10.0.0.3"}),
        (["::1"], ["fe80::53:1"], {"fe80::53:1": "::1"}),
        (["127.0.0.1", "::1"], ["169.254.53.1", "fe80::53:2"], {"169.254.53.1": "127.0.0.1", "fe80::53:2": "::1"}),
        (["192.0.2.1", "127.0.0.1"], ["192.0.2.1", "169.254.53.2"], {"169.254.53.2": "127.0.0.1"}),
        (["10.0.0.1", "127.0.0.1"], ["10.0.0.1", "169.254.53.2"], {"169.254.53.2": "127.0.0.1"}),
        (["127.0.0.1", "10.0.0.1"], ["169.254.53.1", "10.0.0.1"], {"169.254.53.1": "127.0.0.1"}),
        (
            ["127.0.0.1", "127.0.0.2", "127.0.0.1", "127.0.0.3"],
            ["169.254.53.1", "169.254.53.2", "169.254.53.3"],
            {"169.254.53.1": "127.0.0.1", "169.254.53.2": "127.0.0.2", "169.254.53.3": "127.0.0.3"},
        ),
        (["127.0.0.1", "169.254.53.1"], ["169.254.53.2", "169.254.53.1"], {"169.254.53.2": "127.0.0.1"}),
        (["fe80::53%7"], ["fe80::53"], {}),
        (["fe80::53"], ["fe80::53"], {}),
        (
            ["fe80::53%7", "fe80::53%8", "fe80::53%9"],
            ["fe80::53", "fe80::53:2", "fe80::53:3"],
            {"fe80::53:2": "fe80::53%8", "fe80::53:3": "fe80::53%9"},
        ),
    ],
)
def test_a_server_that_the_guest_cannot_reach_is_replaced_in_place(
    servers: list[str], told: list[str] | None, forward: dict[str, str]
) -> None:
    host = HostInfo(
        ipv4=UPLINK4, ipv6=replace(UPLINK6, index=7), resolvers=Resolvers(nameservers=tuple(map(zoned, servers)))
    )
    guest, setup = plan(host=host)
    assert setup.config.dns_servers == tuple(map(parse, servers if told is None else told))
    assert setup.config.dns_forward == tuple(
        (parse(match), Endpoint(zoned(server), 53)) for match, server in forward.items()
    )
    reached = {route.destination for route in guest.routes if route.gateway is None}
    assert {parse(match) for match in forward if "." in match} <= reached
    assert setup.warnings == ()


def test_every_zone_is_another_link_than_that_which_leaves_through_an_interface_of_its_own() -> None:
    host = HostInfo(ipv6=replace(UPLINK6, index=7), resolvers=Resolvers(nameservers=(zoned("fe80::53%7"),)))
    _, setup = plan("--outbound-if6", "eth9", host=host)
    assert setup.config.dns_forward == ((parse("fe80::53:1"), Endpoint(zoned("fe80::53%7"), 53)),)


def test_the_hosts_first_server_is_behind_dns_forward_alone() -> None:
    _, setup = plan("--dns-forward", "192.0.2.99", host=resolved_by("192.0.2.1", "127.0.0.1", "2001:db8::53"))
    assert setup.config.dns_servers == tuple(map(parse, ("192.0.2.99", "169.254.53.2", "2001:db8::53")))
    assert setup.config.dns_forward == (
        (parse("192.0.2.99"), Endpoint(parse("192.0.2.1"), 53)),
        (parse("169.254.53.2"), Endpoint(parse("127.0.0.1"), 53)),
    )


def test_the_gateway_stands_in_for_callers_of_pasta_and_passt_unless_it_is_a_server_itself() -> None:
    config = lenient(resolved_by("127.0.0.53", "127.0.0.1")).config
    assert config.dns_forward == (
        (parse("10.0.0.1"), Endpoint(parse("127.0.0.53"), 53)),
        (parse("169.254.53.2"), Endpoint(parse("127.0.0.1"), 53)),
    )
    assert config.dns_servers == (parse("10.0.0.1"), parse("169.254.53.2"))
    config = lenient(resolved_by("127.0.0.53", "10.0.0.1")).config
    assert config.dns_servers == (parse("169.254.53.1"), parse("10.0.0.1"))


@pytest.mark.parametrize("program", ["pasta", "passt"])
@pytest.mark.parametrize(
    ("arguments", "forward"),
    [
        ([], [("10.0.0.1", "10.0.0.1")]),
        (["-D", "none"], [("10.0.0.1", "10.0.0.1")]),
        (["-D", "192.0.2.97"], []),
        (["--no-map-gw"], []),
        (["--dns-forward", "10.9.9.9"], [("10.9.9.9", "10.0.0.1"), ("10.0.0.1", "10.0.0.1")]),
        (["--dns-host", "192.0.2.98"], [("169.254.53.1", "192.0.2.98"), ("10.0.0.1", "10.0.0.1")]),
        (["--map-host-loopback", "10.9.9.9"], []),
    ],
    ids=["default", "none", "others", "not mapped", "forwarded", "another", "mapped elsewhere"],
)
def test_a_router_that_is_the_resolver_too_is_not_the_hosts_loopback_for_dns(
    program: str, arguments: list[str], forward: list[tuple[str, str]]
) -> None:
    """As in most homes. `pasta` and `passt` map the gateway to the host's loopback by default."""
    setup = make_setup(read(ParsedOptions(program, arguments)).options, resolved_by("10.0.0.1"))
    assert setup.config.dns_forward == tuple((parse(match), Endpoint(parse(server), 53)) for match, server in forward)


def test_a_link_local_server_is_written_with_the_guests_interface() -> None:
    guest, _ = plan("-I", "eth7", host=resolved_by("::1"))
    assert guest.resolv_conf is not None
    assert "nameserver fe80::53:1%eth7\n" in guest.resolv_conf


def test_dns_forward_and_dns_host() -> None:
    _, setup = plan("--dns-forward", "192.0.2.99")
    assert setup.config.dns_forward == ((parse("192.0.2.99"), Endpoint(parse("192.0.2.53"), 53)),)
    assert setup.config.dns_servers[0] == parse("192.0.2.99")
    _, setup = plan("--dns-host", "192.0.2.98")
    assert setup.config.dns_forward == ((parse("169.254.53.1"), Endpoint(parse("192.0.2.98"), 53)),)
    assert setup.config.dns_forward == ((parse("169.254.53.1"), Endpoint(parse("192.0.2.98"), 53)),)
    assert setup.config.dns_servers == (parse("169.254.53.1"), *RESOLVERS.nameservers)
    _, setup = plan("--dns-forward", "192.0.2.99", "--dns-host", "192.0.2.98", "-D", "192.0.2.97")
    assert setup.config.dns_forward == ((parse("192.0.2.99"), Endpoint(parse("192.0.2.98"), 53)),)
    assert setup.config.dns_servers == (parse("192.0.2.97"),)
    with pytest.raises(HostError, match="--dns-host"):
        plan("--dns-forward", "192.0.2.99", host=resolved_by("2001:db8::53"))


def test_given_servers_replace_the_hosts_even_on_loopback() -> None:
    _, setup = plan("-D", "192.0.2.97", host=resolved_by("127.0.0.53"))
    assert (setup.config.dns_forward, setup.config.dns_servers) == ((), (parse("192.0.2.97"),))


def test_a_name_server_of_the_hosts_may_have_another_port() -> None:
    _, setup = plan("--dns-host", "127.0.0.1:5353", "--dns-host", "[::1]:54")
    assert setup.config.dns_forward == (
        (parse("169.254.53.1"), Endpoint(parse("127.0.0.1"), 5353)),
        (parse("fe80::53:1"), Endpoint(parse("::1"), 54)),
    )


def test_a_name_server_of_a_family_that_the_guest_has_not_is_refused() -> None:
    with pytest.raises(OptionsError, match=r"--dns-host gives an IPv6 address"):
        plan("-4", "--dns-host", "[::1]:54")


# names


NAMES = ("host.sansnet.internal", "host.containers.internal", "host.docker.internal")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], []),
        (["--map-host-loopback", "10.9.9.9"], ["10.9.9.9"]),
        (["--map-host-loopback", "10.9.9.9", "--map-host-loopback", "fd00::9"], ["10.9.9.9", "fd00::9"]),
        (["--map-guest-addr", "10.9.9.8", "--map-guest-addr", "fd00::8"], ["10.9.9.8", "fd00::8"]),
        (["--map-guest-addr", "fd00::8", "--map-host-loopback", "10.9.9.9"], ["10.9.9.9"]),
        (["--map-guest-addr", "10.9.9.8", "--map-host-loopback", "fe80::9"], ["10.9.9.8"]),
        (["--map-host-loopback", "fe80::9"], []),
    ],
)
def test_the_hosts_names_are_those_of_a_mapping(arguments: list[str], expected: list[str]) -> None:
    guest, setup = plan(*arguments)
    assert setup.config.hosts == tuple((name, tuple(map(parse, expected))) for name in NAMES)
    assert guest.hosts == tuple((parse(address), NAMES) for address in expected)


def test_an_address_that_means_nothing_without_one_of_the_guests_own_has_no_name() -> None:
    guest, _ = plan("--map-guest-addr", "fd00::8", host=HostInfo(ipv4=UPLINK4, resolvers=RESOLVERS))
    assert guest.hosts == ()


def test_names_are_given() -> None:
    arguments = ["--host", "db=192.0.2.1", "--host", "DB=192.0.2.2", "--host", "db=192.0.2.1"]
    mapping = ["--map-host-loopback", "10.9.9.9"]
    guest, setup = plan(*arguments, "--host", "gw=host-gateway", "--host", f"{NAMES[2]}=192.0.2.3", *mapping)
    names = dict(setup.config.hosts)
    assert names["db"] == (parse("192.0.2.1"), parse("192.0.2.2"))
    assert (names["gw"], names[NAMES[0]], names[NAMES[2]]) == (
        (parse("10.9.9.9"),),
        (parse("10.9.9.9"),),
        (parse("192.0.2.3"),),
    )
    assert guest.hosts == (
        (parse("192.0.2.1"), ("db",)),
        (parse("192.0.2.2"), ("db",)),
        (parse("10.9.9.9"), ("gw", *NAMES[:2])),
        (parse("192.0.2.3"), (NAMES[2],)),
    )


def test_the_host_has_no_address_unless_one_is_mapped() -> None:
    with pytest.raises(OptionsError, match=r"--host gw=host-gateway needs .* --map-host-loopback ADDR"):
        plan("--host", "gw:host-gateway")


@pytest.mark.parametrize(("arguments", "expected"), [([], False), (["-v"], True), (["-c", "x"], True)])
def test_the_network_tells_what_hints_are_made_of_where_they_are_shown(arguments: list[str], expected: bool) -> None:
    assert plan(*arguments)[1].config.notices is expected


def test_a_machine_without_a_name_server_finds_no_names() -> None:
    arguments = ["-s", "x", "-D", "none"]
    assert make_setup(parse_serve(arguments), HOST).warnings == ()
    [warning] = make_setup(parse_serve([*arguments, "--host", "db=192.0.2.1"]), HOST).warnings
    assert "--dns-forward ADDR" in warning


def test_the_hosts_names_mean_the_gateway_where_that_is_the_hosts_loopback() -> None:
    setup = make_setup(read(ParsedOptions("pasta", [])).options, HOST)
    assert dict(setup.config.hosts)[NAMES[2]] == (parse("10.0.0.1"),)


def test_none_is_none() -> None:
    guest, setup = plan("-D", "none", "-S", "none")
    assert guest.resolv_conf == "# made by sansnet\noptions rotate\n"
    assert (setup.config.dns_servers, setup.config.dns_search, setup.warnings) == ((), (), ())


def test_the_rest_is_passed_on() -> None:
    guest, setup = plan(
        "-H", "visitor.example", "--ns-mac-addr", "02:00:00:00:00:01", "--no-config",
        "--no-tcp", "--no-udp", "--no-icmp", "--no-dhcp", "--no-ndp",
        "-o", "192.0.2.1", "-o", "2001:db8::1", "--map-host-loopback", "192.0.2.254",
        "--map-guest-addr", "192.0.2.253", "--outbound-if4", "eth1", "--outbound-if6", "eth2",
        "--udp-filtering", "address-dependent",
    )  # fmt: skip
    config = setup.config
    assert (guest.hostname, guest.mac, guest.configure) == ("visitor.example", config.guest_mac, False)
    assert (config.hostname, config.fqdn) == ("visitor.example", "visitor.example")
    assert not any((config.tcp, config.udp, config.icmp, config.dhcp, config.dhcp6, config.ndp))
    assert config.router_advertisements
    assert config.udp_filtering is UdpFiltering.ADDRESS_DEPENDENT
    assert (config.outbound4, config.outbound6) == (parse("192.0.2.1"), parse("2001:db8::1"))
    assert config.map_host_loopback == (parse("192.0.2.254"),)
    assert config.map_guest_address == (parse("192.0.2.253"),)
    assert (setup.outbound_if4, setup.outbound_if6, setup.interface) == ("eth1", "eth2", "eth2")


@pytest.mark.parametrize(
    ("arguments", "host", "own"),
    [
        ([], HOST, []),
        ([], NOTHING, ["169.254.2.2", "fe80::1"]),
        (["-g", "10.0.0.1", "-g", "fe80::99"], HOST, []),
        (["-g", "10.0.2.2"], HOST, ["10.0.2.2"]),
        (["-a", "10.0.2.15/24", "-g", "10.0.2.2", "-4"], HOST, ["10.0.2.2"]),
        (["-g", "2001:db8:7::1"], HOST, ["2001:db8:7::1", "fe80::1"]),
        (["-4", "--dns-forward", "10.0.2.3"], HOST, ["10.0.2.3"]),
        (["-4", "--dns-forward", "192.0.2.53"], HOST, []),
        (["-4"], resolved_by("127.0.0.53"), ["169.254.53.1"]),
        (["-4", "-g", "10.0.2.2"], resolved_by("127.0.0.53"), ["10.0.2.2", "169.254.53.1"]),
    ],
)
def test_what_was_not_copied_from_the_host_exists_on_the_guests_segment_only(
    arguments: list[str], host: HostInfo, own: list[str]
) -> None:
    assert plan(*arguments, host=host)[1].config.own_addresses == tuple(map(parse, own))


def test_a_machine_gets_what_a_command_gets_and_configures_itself() -> None:
    setup = make_setup(parse_serve(["-s", "x", "-H", "visitor", "--fqdn", "visitor.example"]), HOST)
    of_command = plan("-H", "visitor", "--no-config")[1].config
    assert setup.config == replace(of_command, fqdn="visitor.example")
    assert setup.config.router_advertisements
    assert setup.interface == "eth6"


# what callers of pasta and passt may ask for


def lenient(host: HostInfo = HOST, **fields: Any) -> Setup:
    return make_setup(NetworkOptions(lenient=True, **fields), host)


def test_the_gateway_may_be_the_hosts_loopback_in_each_family_that_has_no_other_address_for_it() -> None:
    assert lenient(map_gateway=True).config.map_host_loopback == (parse("10.0.0.1"), parse("fe80::99"))
    mapped = lenient(map_gateway=True, map_host_loopback=(parse("10.0.0.9"),)).config.map_host_loopback
    assert mapped == (parse("10.0.0.9"), parse("fe80::99"))


def test_addresses_of_a_family_that_the_guest_has_not_are_left_out() -> None:
    both = tuple(map(parse, ("10.9.9.9", "2001:db8::9")))
    config = lenient(
        families=frozenset({4}),
        own=tuple((address, None) for address in map(parse, ("10.0.0.77", "2001:db8::77"))),
        gateways=both,
        map_host_loopback=both,
        map_guest_address=tuple(map(parse, ("10.9.9.8", "2001:db8::8"))),
        dns_forward=both,
        dns_host=tuple(Endpoint(parse(host), 53) for host in ("127.0.0.1", "::1")),
        dns=both,
    ).config
    assert config.ipv6 is None
    assert config.dns_servers == config.map_host_loopback == (parse("10.9.9.9"),)
    assert config.dns_forward == ((parse("10.9.9.9"), Endpoint(parse("127.0.0.1"), 53)),)
    assert config.map_guest_address == (parse("10.9.9.8"),)


def test_a_forwarded_name_server_without_one_behind_it_is_a_warning() -> None:
    setup = lenient(NOTHING, dns=(), dns_forward=(parse("10.9.9.9"),))
    assert setup.config.dns_forward == ()
    assert [warning for warning in setup.warnings if "dns_forward 10.9.9.9 has no name server" in warning]


def test_messages_name_the_fields_of_the_library_and_the_options_of_the_command() -> None:
    def problem(kind: type[NamespaceOptions], **fields: Any) -> str:
        with pytest.raises(OptionsError) as caught:
            make_plan(kind(**fields), NOTHING)
        return str(caught.value)

    own = {"own": ("10.0.0.2/24",), "gateways": ("10.0.0.1",)}
    assert problem(NamespaceOptions, **own, map_host_loopback=("10.0.0.2",)).startswith("map_host_loopback 10.0.0.2 is")
    assert problem(RunOptions, command=("true",), **own, map_host_loopback=("10.0.0.2",)).startswith(
        "--map-host-loopback 10.0.0.2 is"
    )
    assert problem(NamespaceOptions, **own, map_guest_address=("10.0.0.2",)).endswith(
        "map_guest_address 10.0.0.2 is the guest's own address, which stays in it; give another, as 10.9.9.9"
    )
    assert problem(NamespaceOptions, hosts=(("a", None),)).endswith("give map_host_loopback ADDR too")
    assert problem(RunOptions, command=("true",), hosts=(("a", None),)).endswith("give --map-host-loopback ADDR too")


def test_a_made_up_network_does_not_depend_on_the_host() -> None:
    with_host, without = (make_plan(NamespaceOptions.made_up(), host)[0] for host in (HOST, NOTHING))
    assert replace(with_host, resolv_conf=None) == replace(without, resolv_conf=None)
    config = make_plan(NamespaceOptions.made_up(map_host_loopback=("fd00::2",)), HOST)[1].config
    virtual = [
        address for address in ("10.0.2.2", "10.0.2.3", "fd00::2", "fd00::3", "10.0.2.15") if is_in(config, address)
    ]
    assert virtual == ["10.0.2.2", "fd00::3", "10.0.2.15"]


@pytest.mark.parametrize("host", [HOST, NOTHING])
def test_made_up_addresses_of_ones_own_have_a_network_of_their_own(host: HostInfo) -> None:
    plan, setup = make_plan(NamespaceOptions.made_up(own=("10.7.0.2/24",)), host)
    config = setup.config
    assert config.ipv6 is None  # neither made up nor the host's
    assert config.ipv4 is not None
    assert config.ipv4.gateway == parse("10.7.0.1")
    assert [route.gateway for route in plan.routes] == [parse("10.7.0.1")]
    virtual = [address for address in ("10.7.0.1", "10.7.0.3", "10.7.0.4", "10.0.2.2") if is_in(config, address)]
    assert virtual == ["10.7.0.1", "10.7.0.4"]


def test_made_up_fields_follow_each_other() -> None:
    made = NetworkOptions.made_up(own=("10.7.0.5/24", "fd07::5/64"), gateways=("10.7.0.1",))
    assert made.gateways == (parse("10.7.0.1"), parse("fd07::2"))
    assert made.dns == made.dns_forward == (parse("10.7.0.3"),)
    assert NetworkOptions.made_up(families={6}).dns == (parse("fd00::3"),)
    assert NetworkOptions.made_up(own=("10.7.0.5/32",)).gateways == ()
    assert NetworkOptions.made_up(own=("10.7.0.1/30",)).gateways == (parse("10.7.0.2"),)
    assert NetworkOptions.made_up(own=("10.7.0.5",), netmask=16).gateways == (parse("10.7.0.2"),)


def test_a_made_up_guest_with_a_name_server_of_its_own_has_no_way_to_the_hosts() -> None:
    assert NetworkOptions.made_up(dns=("10.0.2.9",)).dns_forward == ()
    assert NetworkOptions.made_up(dns=("10.0.2.9",), dns_forward=("10.0.2.9",)).dns_forward == (parse("10.0.2.9"),)
    with pytest.raises(OptionsError, match=r"^own: .*256"):
        NetworkOptions.made_up(own=("10.0.2.256/24",))


def is_in(config: NetworkConfig, address: str) -> bool:
    """Whether an address is in a virtual prefix."""
    return any(prefix.contains(parse(address)) for prefix in config.virtual)


def test_one_address_and_the_default_route_may_be_enough() -> None:
    options = RunOptions(command=("true",), copy_addresses=False, copy_routes=False)
    guest, _ = make_plan(options, HOST)
    assert guest.addresses == (UPLINK4.addresses[0], UPLINK6.addresses[0])
    assert [(route.prefix_length, route.gateway) for route in guest.routes] == [
        (0, parse("10.0.0.1")),
        (0, parse("fe80::99")),
    ]


def test_what_the_network_answers_is_passed_on() -> None:
    config = lenient(
        dhcp6=False, advertise_router=False, advertise_mtu=False, gateway_mac=bytes.fromhex("020000000009")
    ).config
    assert (config.dhcp, config.dhcp6, config.router_advertisements, config.advertise_mtu) == (
        True,
        False,
        False,
        False,
    )
    assert config.mac == bytes.fromhex("020000000009")


def test_a_stand_in_that_no_server_needs_any_more_is_still_ours() -> None:
    """A guest may continue to query it; it leads nowhere at other ports. The address of a real server is not ours."""
    stand_in, server, now = parse("169.254.53.7"), parse("192.0.2.9"), Endpoint(parse("192.0.2.53"), 53)
    setup = remembering(plan()[1], [(stand_in, now), (server, now)])
    address_map = AddressMap(setup.config)
    assert (address_map.to_host(stand_in, 53), address_map.to_host(server, 53)) == (now, now)
    assert (address_map.to_host(stand_in, 80), address_map.to_host(server, 80)) == (None, Endpoint(server, 80))


def test_the_memory_of_a_guest_is_what_the_option_or_the_host_says() -> None:
    little = replace(HOST, memory=64 << 20)
    assert plan()[1].config.limits == Limits()
    assert plan(host=little)[1].config.limits == Limits().within(64 << 20)
    assert plan("--memory", "16MiB", host=little)[1].config.limits == Limits().within(16 << 20)
    assert plan("--memory", "1G", host=little)[1].config.limits == Limits()


def test_ports_of_services_of_the_host_stay_free() -> None:
    host = replace(HOST, reserved_ports=(40000, 40001))
    assert {5353, 51820, 40000, 40001} <= set(plan(host=host)[1].config.reserved_udp_ports)
    assert plan("--keep-udp-ports", host=host)[1].config.reserved_udp_ports == ()
