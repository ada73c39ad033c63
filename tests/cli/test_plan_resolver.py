"""The plan of a guest whose questions for names our own resolver answers."""

from __future__ import annotations

from typing import Any

import pytest

from sansnet_core import Action, Rule
from sansnet_core.addresses import Endpoint, Prefix, parse
from sansnet_core.policy import NameMode, Policy, ProxyConfig, ProxyKind
from sansnet_core.records import replace
from sansnet_trio.guest.plan import GuestPlan
from sansnet_trio.hostinfo import HostError, HostInfo, InterfaceAddress, Resolvers, Route
from sansnet_trio.plan.host_names import warn_unanswered
from sansnet_trio.plan.options import NamespaceOptions
from sansnet_trio.plan.resolver import choose_prefixes
from sansnet_trio.plan.setup import Setup, keeping_names, make_plan, make_setup
from tests.cli.test_plan import HOST, NOTHING, UPLINK4, UPLINK6

NAMES = Policy(rules=(Rule(action=Action.ALLOW, names=("example.org",)),), default_action=Action.REFUSE)
PREFIX4, PREFIX6 = Prefix("198.18.0.0/15"), Prefix("fd73:616e:736e:6574::/64")


def plan(host: HostInfo = HOST, **fields: Any) -> tuple[GuestPlan, Setup]:
    return make_plan(NamespaceOptions(**{"policy": NAMES} | fields), host)


def resolved_by(*servers: str, **fields: Any) -> HostInfo:
    return replace(HOST, resolvers=Resolvers(nameservers=servers), **fields)


# rules


def test_the_rules_of_the_policy_come_first() -> None:
    own = Rule(action=Action.DROP)
    config = plan(rules=(own,))[1].config
    assert (config.rules, config.default_action) == ((*NAMES.rules, own), Action.REFUSE)
    assert plan(default_action=Action.ASK)[1].config.default_action is Action.ASK
    assert plan(policy=None)[1].config.default_action is None


def test_the_proxies_of_the_policy_are_those_of_the_network() -> None:
    proxy = ProxyConfig(name="office", kind=ProxyKind.SOCKS5, server=("192.0.2.1", 1080))
    assert plan(policy=replace(NAMES, proxies=(proxy,)))[1].config.proxies == (proxy,)


def test_rules_without_names_need_no_resolver() -> None:
    policy = Policy(rules=(Rule(action=Action.ALLOW, ports=(443,)),))
    assert plan(policy=policy)[1].config.resolver is None
    assert plan(policy=policy, resolver=True)[1].config.resolver is not None
    assert plan(resolver=False)[1].config.resolver is None


def test_rules_with_names_may_be_those_of_the_options() -> None:
    assert plan(policy=None, rules=NAMES.rules)[1].config.resolver is not None


@pytest.mark.parametrize(
    ("options", "policy", "expected"),
    [
        (None, None, NameMode.OWN),
        (None, NameMode.REAL, NameMode.REAL),
        (NameMode.OWN, NameMode.REAL, NameMode.OWN),
        (NameMode.REAL, None, NameMode.REAL),
    ],
)
def test_the_options_say_how_the_guest_sees_names_and_else_the_policy(
    options: NameMode | None, policy: NameMode | None, expected: NameMode
) -> None:
    resolver = plan(names=options, policy=replace(NAMES, names=policy))[1].config.resolver
    assert resolver is not None
    assert resolver.names is expected


# name servers


def upstream(setup: Setup) -> list[str]:
    assert setup.config.resolver is not None
    return [str(server) for server in setup.config.resolver.servers]


def test_the_guest_keeps_its_name_servers_and_the_resolver_asks_those_of_the_host() -> None:
    guest, setup = plan()
    assert setup.config.dns_servers == HOST.resolvers.nameservers
    assert "nameserver 192.0.2.53\nnameserver 2001:db8::53\n" in (guest.resolv_conf or "")
    assert upstream(setup) == ["192.0.2.53:53", "[2001:db8::53]:53"]
    assert setup.warnings == ()


def test_a_server_on_loopback_is_asked_on_the_host() -> None:
    guest, setup = plan(resolved_by("127.0.0.53"))
    assert "nameserver 169.254.53.1\n" in (guest.resolv_conf or "")
    assert upstream(setup) == ["127.0.0.53:53"]


def test_servers_of_a_family_that_the_guest_lacks_are_asked_by_a_stand_in() -> None:
    host = resolved_by("192.0.2.53", "127.0.0.1")
    guest, setup = plan(host, families={6})
    stand_in = parse("fe80::53:1")
    assert setup.config.dns_servers == (stand_in,)
    assert stand_in in (setup.config.own_addresses or ())
    assert "nameserver fe80::53:1%" in (guest.resolv_conf or "")
    assert upstream(setup) == ["192.0.2.53:53", "127.0.0.1:53"]
    assert setup.warnings == ()
    assert plan(host, families={6}, policy=None)[1].config.dns_servers == ()


def test_a_stand_in_of_ipv4_has_a_route() -> None:
    guest, setup = plan(resolved_by("2001:db8::53"), families={4})
    assert setup.config.dns_servers == (parse("169.254.53.1"),)
    assert Route(destination="169.254.53.1/32") in guest.routes
    assert upstream(setup) == ["[2001:db8::53]:53"]


def test_a_machine_learns_the_stand_in_too() -> None:
    setup = make_setup(NamespaceOptions(policy=NAMES, families={4}), resolved_by("2001:db8::53"))
    assert setup.config.dns_servers == (parse("169.254.53.1"),)


def test_a_server_of_the_options_is_asked_instead_of_those_of_the_host() -> None:
    setup = plan(dns=("203.0.113.53",))[1]
    assert setup.config.dns_servers == (parse("203.0.113.53"),)
    assert upstream(setup) == ["203.0.113.53:53"]


def test_the_server_behind_an_address_of_the_options_is_asked_first() -> None:
    """As podman starts pasta: --dns-forward, and sometimes --dns-host."""
    setup = plan(dns_forward=("169.254.1.1",), dns_host=(("203.0.113.53", 5353),))[1]
    assert setup.config.dns_servers[0] == parse("169.254.1.1")
    assert upstream(setup) == ["203.0.113.53:5353", "192.0.2.53:53", "[2001:db8::53]:53"]
    setup = plan(dns_forward=("169.254.1.1",))[1]
    assert setup.config.dns_servers == (parse("169.254.1.1"), parse("2001:db8::53"))
    assert upstream(setup) == ["192.0.2.53:53", "[2001:db8::53]:53"]
    setup = plan(dns_forward=("169.254.1.1",), dns=("169.254.1.1",))[1]
    assert upstream(setup) == ["192.0.2.53:53"]


def test_a_guest_that_asks_elsewhere_is_warned_about() -> None:
    options = NamespaceOptions(policy=NAMES)
    config = plan()[1].config
    assert list(warn_unanswered(options, config, [parse("192.0.2.53")])) == []
    (warning,) = warn_unanswered(options, config, [parse("8.8.8.8")])
    assert warning.startswith("sansnet answers questions for names at the name servers 192.0.2.53 or 2001:db8::53")
    assert list(warn_unanswered(NamespaceOptions(), plan(policy=None)[1].config, [parse("8.8.8.8")])) == []


# addresses


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (HOST, (6, 4)),
        (replace(HOST, ipv6=None), (4,)),
        (replace(HOST, ipv4=None), (6,)),
        (replace(HOST, ipv6=replace(UPLINK6, routes=(Route(destination="2001:db8::/64"),))), (4, 6)),
        (NOTHING, (4, 6)),
        (HostInfo(has_ipv6=False), (4,)),
    ],
)
def test_the_resolver_knows_the_families_of_the_host(host: HostInfo, expected: tuple[int, ...]) -> None:
    resolver = plan(host)[1].config.resolver
    assert resolver is not None
    assert resolver.families == expected


def test_the_rules_know_the_addresses_of_the_host() -> None:
    host = replace(HOST, addresses=("127.0.0.1", "10.0.0.2", "172.17.0.1", "fe80::1"))
    assert plan(host)[1].config.host_addresses == tuple(map(Prefix, host.addresses))
    assert plan(host, policy=None)[1].config.host_addresses == tuple(map(Prefix, host.addresses))


def test_the_rules_know_the_networks_that_are_the_host_itself() -> None:
    host = replace(HOST, addresses=("10.0.0.2",), local=("10.0.0.2", "20.1.0.0/16", "2a00:99::"))
    expected = (Prefix("10.0.0.2"), Prefix("20.1.0.0/16"), Prefix("2a00:99::"))
    assert plan(host)[1].config.host_addresses == expected


def prefixes(setup: Setup) -> tuple[str, str]:
    resolver = setup.config.resolver
    assert resolver is not None
    return str(resolver.prefix4), str(resolver.prefix6)


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        ([], (PREFIX4, PREFIX6)),
        (["192.0.2.0/24", "2001:db8::/32", "fd00::/64"], (PREFIX4, PREFIX6)),
        (["198.19.0.0/24"], ("198.18.0.0/16", PREFIX6)),
        (["198.18.0.7/32"], ("198.19.0.0/16", PREFIX6)),
        (["198.18.0.0/15"], ("10.254.0.0/16", PREFIX6)),
        (["198.16.0.0/12", "10.254.0.0/15", "10.253.9.0/24"], ("10.252.0.0/16", PREFIX6)),
        (["198.0.0.0/8", "10.0.0.0/8"], ("172.31.0.0/16", PREFIX6)),
        (["198.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12"], ("100.127.0.0/16", PREFIX6)),
        (["fd73:616e:736e:6574::9/128"], (PREFIX4, "fd73:616e:736e:6575::/64")),
        (["fd73:616e:736e:6574::/63"], (PREFIX4, "fd73:616e:736e:6576::/64")),
        (["fc00::/7"], (PREFIX4, "100::/64")),
    ],
)
def test_names_get_addresses_that_nothing_else_uses(used: list[str], expected: tuple[Any, Any]) -> None:
    assert choose_prefixes(map(Prefix, used)) == tuple(map(Prefix, expected))


@pytest.mark.parametrize(
    "used", [["198.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "100.64.0.0/10"], ["fc00::/7", "100::/16"]]
)
def test_a_host_that_uses_all_of_them_is_told_the_remedy(used: list[str]) -> None:
    with pytest.raises(HostError, match="use their real addresses"):
        choose_prefixes(map(Prefix, used))


def test_real_addresses_need_no_free_networks() -> None:
    host = replace(HOST, networks=("fc00::/7", "100::/16"))
    assert plan(host, names=NameMode.REAL)[1].config.resolver is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"own": ("198.18.0.2/24",)},
        {"virtual": ("198.18.5.0/24",)},
        {"gateways": ("198.18.0.1",)},
        {"map_host_loopback": ("198.18.0.9",)},
        {"map_guest_address": ("198.18.0.9",)},
        {"dns": ("198.18.0.53",)},
        {"dns_forward": ("198.18.0.53",)},
        {"hosts": (("db", "198.18.0.7"),)},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_names_get_no_address_with_a_meaning_for_the_guest(fields: dict[str, Any]) -> None:
    assert prefixes(plan(**fields)[1])[0] == "198.19.0.0/16"


@pytest.mark.parametrize(
    "host",
    [
        replace(HOST, addresses=("198.18.0.1",)),
        replace(HOST, networks=("198.18.0.0/24",)),
        replace(HOST, ipv4=replace(UPLINK4, routes=(*UPLINK4.routes, Route(destination="198.18.0.0/24")))),
        resolved_by("198.18.0.53"),
    ],
    ids=["address", "network", "route", "server"],
)
def test_names_get_no_address_of_the_hosts_networks(host: HostInfo) -> None:
    assert prefixes(plan(host)[1])[0] == "198.19.0.0/16"


def test_a_guest_without_a_default_route_has_routes_to_names() -> None:
    lan4 = replace(UPLINK4, routes=(Route(destination="10.0.0.0/24"),))
    lan6 = replace(UPLINK6, routes=(Route(destination="2001:db8::/64"),))
    routes = Route(destination=str(PREFIX4)), Route(destination=str(PREFIX6))
    assert not set(map(str, routes)) & set(map(str, plan()[0].routes))
    lan = replace(HOST, ipv4=lan4, ipv6=lan6)
    assert plan(lan)[0].routes[-2:] == routes
    assert plan(lan, names=NameMode.REAL)[0].routes == (*lan4.routes, *lan6.routes)
    assert plan(replace(HOST, ipv4=lan4))[0].routes[-1] == routes[0]


def test_a_guest_without_an_ipv6_address_has_no_route_to_names_over_ipv6() -> None:
    host = replace(HOST, ipv6=None, addresses=("10.0.0.2",))
    assert all(len(route.destination) == 4 or not route.prefix_length for route in plan(host)[0].routes)


def test_names_keep_their_addresses_when_the_host_changes() -> None:
    old = plan()[1]
    new = plan(replace(HOST, networks=("198.18.0.0/24",), addresses=("198.18.0.1",)))[1]
    kept = keeping_names(new, old)
    assert prefixes(kept) == prefixes(old)
    assert kept.config.host_addresses == (Prefix("198.18.0.1"),)
    assert keeping_names(plan(policy=None)[1], old).config.resolver is None


def test_a_guest_without_a_resolver_may_get_the_same_one_later() -> None:
    host = replace(HOST, networks=("198.18.0.0/24",))
    assert plan(host)[1].resolver == plan(host)[1].config.resolver
    later = plan(host, policy=None)[1]
    assert (later.resolver, later.config.resolver) == (plan(host)[1].resolver, None)
    assert plan(replace(HOST, networks=("0.0.0.0/1", "128.0.0.0/1")), policy=None)[1].resolver is None


def test_the_interfaces_of_the_guest_are_as_without_a_resolver() -> None:
    assert plan()[0] == plan(policy=None)[0]
    assert InterfaceAddress("10.0.0.2/24") in plan()[0].addresses
    assert Endpoint("192.0.2.53", 53) in (plan()[1].config.resolver or pytest.fail("no resolver")).servers
