"""Invalid configurations are refused."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_interface, ip_network
from typing import Any, Final

import pytest

from sansnet_core import (
    Action,
    ConfigError,
    Endpoint,
    Ipv4Config,
    Ipv6Config,
    Limits,
    LinkConfig,
    NetworkConfig,
    Refuse,
    Rule,
    fields,
)
from sansnet_core.records import replace
from sansnet_core.testing import make_config

IPV4: Final = Ipv4Config(address="10.0.2.15/24", gateway="10.0.2.2")
WRONG_NETWORK: Any = ip_network("::/0")


@pytest.mark.parametrize(
    "changes",
    [
        {"dns_servers": (b"abc",)},
        {"map_host_loopback": (bytes(5),)},
        {"map_guest_address": (bytes(5),)},
        {"own_addresses": (b"",)},
        {"dns_forward": ((bytes(5), (bytes(4), 53)),)},
        {"dns_forward": ((bytes(4), Endpoint(bytes(16), 53)),)},
        {"dns_forward": ((bytes(4), Endpoint(bytes(4), 0)),)},
        {"dns_forward": ((bytes(4), (bytes(4), 65536)),)},
        {"dns_forward": (bytes(4),)},
        {"dns_forward": ((bytes(4), bytes(4)),)},
        {"hosts": ("db.example.org",)},
        {"hosts": ((5, ("192.0.2.1",)),)},
        {"mac": bytes.fromhex("010000000001")},
        {"map_host_loopback": ("192.0.2.1", "192.0.2.2")},
    ],
)
def test_an_address_or_port_that_is_none_is_refused_by_name(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        replace(make_config(), **changes)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: NetworkConfig(ipv4=IPV4, dns_servers=WRONG_NETWORK),
        lambda: NetworkConfig(ipv4=IPV4, own_addresses=WRONG_NETWORK),
        lambda: NetworkConfig(ipv4=IPV4, virtual=WRONG_NETWORK),
        lambda: Rule(action=Action.DROP, destinations=WRONG_NETWORK),
    ],
)
def test_a_network_is_one_value_and_not_all_its_addresses(wrong: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match=r"IPv6Network\('::/0'\) is one value in place of several; write \("):
        wrong()


def test_an_address_has_its_family() -> None:
    with pytest.raises(ConfigError, match=r"ipv4\.address: .* is not an IPv4 address"):
        Ipv4Config(address="2001:db8::1/64", gateway="10.0.2.2")
    with pytest.raises(ConfigError, match=r"ipv6\.gateway: .* is not an IPv6 address"):
        Ipv6Config(address="2001:db8::15", gateway="10.0.2.2")


def test_the_length_of_the_guests_network_is_given_once_and_fits() -> None:
    whole = Ipv4Config(address="10.0.2.15", prefix_length=24, gateway="10.0.2.2")
    assert whole == IPV4 == Ipv4Config(address="10.0.2.15/24", prefix_length=24, gateway="10.0.2.2")
    assert whole.prefix_length == 24
    wrong: Any = "24"
    for address, length, why in (
        ("10.0.2.15", None, r"it is missing; give address='10\.0\.2\.15/24' or prefix_length=24"),
        ("10.0.2.15", 33, "33 is not between 0 and 32"),
        ("10.0.2.15", 129, "129 is not between 0 and 32, or 128 for IPv6"),
        ("10.0.2.15", wrong, "'24' is not between 0 and 32, or 128 for IPv6"),
        ("10.0.2.15/24", 25, "25 contradicts address, which has 24; give one of them"),
    ):
        with pytest.raises(ConfigError, match=rf"^ipv4\.prefix_length: {why}$"):
            Ipv4Config(address=address, prefix_length=length, gateway="10.0.2.2")


def test_the_prefix_of_the_guests_network_has_64_bits() -> None:
    assert Ipv6Config(address="2001:db8::15/64", gateway="fe80::1") == Ipv6Config(
        address="2001:db8::15", gateway="fe80::1"
    )
    with pytest.raises(ConfigError, match=r"ipv6\.address: .* has 64 bits always \(RFC 4862\); leave out /48"):
        Ipv6Config(address="2001:db8::15/48", gateway="fe80::1")


def test_a_network_is_an_address_and_its_length_where_both_may_be_given() -> None:
    assert fields.interface(ip_network("192.0.2.0/24")) == (bytes((192, 0, 2, 0)), 24)
    assert fields.interface(ip_interface("192.0.2.1/24")) == (bytes((192, 0, 2, 1)), 24)


@pytest.mark.parametrize("limit", ["tcp_flows", "decision_time"])
def test_there_is_no_limit_of_nothing(limit: str) -> None:
    with pytest.raises(ConfigError, match=f"^{limit}: must be more than 0$"):
        replace(Limits(), **{limit: 0})


@pytest.mark.parametrize("names", ["example.org", 5, ("example.org", 5)])
def test_several_texts_are_a_tuple(names: Any) -> None:
    with pytest.raises(ConfigError, match=r"^dns_search: .* is not a tuple of texts; write \('one', 'two'\) or"):
        NetworkConfig(ipv4=IPV4, dns_search=names)


@pytest.mark.parametrize("errno", [0, -1, 4096, True, "EPERM"])
def test_a_refusal_has_an_errno_of_the_kernel(errno: Any) -> None:
    with pytest.raises(ConfigError, match=r"^errno: .* is not an errno"):
        Refuse(errno)


def test_a_name_may_end_with_one_dot() -> None:
    longest = ".".join(["a" * 63, "a" * 63, "a" * 63, "a" * 61])
    assert len(longest) == 253
    for name in ("example.org.", longest, f"{longest}."):
        assert NetworkConfig(ipv4=IPV4, dns_search=(name,)).dns_search == (name,)
    for name in ("", ".", "example.org..", ".example.org", f"a{longest}"):
        with pytest.raises(ConfigError, match=r"^dns_search: .* is not a domain name"):
            NetworkConfig(ipv4=IPV4, dns_search=(name,))


@pytest.mark.parametrize("name", ["host\n", "a b", "\t", "host\x7f"])
def test_a_name_has_no_blanks_and_no_control_characters(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^hostname: .* is not a domain name"):
        NetworkConfig(ipv4=IPV4, hostname=name)
    with pytest.raises(ConfigError, match=r"^fqdn: .* is not a domain name"):
        NetworkConfig(ipv4=IPV4, fqdn=name)


@pytest.mark.parametrize("protocols", [(), ("tcp",), ("udp",), ("ping", "tcp")])
def test_only_a_rule_about_pings_may_lead_to_port_0(protocols: tuple[str, ...]) -> None:
    to = Endpoint("192.0.2.1", 0)
    with pytest.raises(ConfigError, match=r"^to: 192.0.2.1:0 has port 0, which only pings can go to; give the port"):
        Rule(action=Action.ALLOW, protocols=protocols, to=to)
    assert Rule(action=Action.ALLOW, protocols=("ping",), to=to).to == to


def test_a_rule_about_pings_has_no_ports() -> None:
    with pytest.raises(ConfigError, match=r"^ports: a ping has no port; leave them out, or name tcp or udp"):
        Rule(action=Action.ALLOW, protocols=("ping",), ports=(443,))
    assert Rule(action=Action.ALLOW, protocols=("ping", "tcp"), ports=(443,)).ports == ((443, 443),)


def test_the_error_of_a_large_value_stays_short() -> None:
    with pytest.raises(ConfigError) as refused:
        replace(LinkConfig(), mtu=NetworkConfig(ipv4=IPV4))
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("protocols", [(["tcp"],), ({},), (6,), (None,)])
def test_a_protocol_of_a_rule_is_text(protocols: Any) -> None:
    with pytest.raises(ConfigError, match=r"^protocols: .* is not one of tcp, udp, ping"):
        Rule(action=Action.DROP, protocols=protocols)


@pytest.mark.parametrize("wrong", ["192.0.2.1/24", ip_interface("192.0.2.1/24")])
def test_an_address_alone_has_no_prefix_length(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"own_addresses.* has a prefix length, which does not belong here"):
        NetworkConfig(ipv4=IPV4, own_addresses=(wrong,))


@pytest.mark.parametrize(
    ("offloads", "why"),
    [
        ({"max_frame_size": 1513}, "cannot hold a packet of the MTU"),
        ({"checksum_offload": True}, "need vnet_header"),
        ({"tso4": True}, "need vnet_header"),
        ({"vnet_header": True, "tso6": True}, "need checksum_offload"),
    ],
)
def test_offloads_need_each_other_and_frames_hold_packets(offloads: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        LinkConfig(**({"mtu": 1500, "max_frame_size": 1514} | offloads))


def test_a_router_of_ipv6_that_is_advertised_has_a_link_local_address() -> None:
    ipv6 = Ipv6Config(address="2001:db8::15", gateway="2001:db8::1")
    with pytest.raises(ConfigError, match=r"ipv6\.gateway: .* not link-local"):
        NetworkConfig(ipv6=ipv6)
    assert NetworkConfig(ipv6=ipv6, router_advertisements=False).ipv6 is ipv6


def test_the_prefix_of_a_translator_has_a_length_that_there_is() -> None:
    with pytest.raises(ConfigError, match=r"^translators: "):
        NetworkConfig(ipv4=IPV4, translators=("64:ff9b::/95",))


def test_a_range_of_ports_has_two_ends() -> None:
    with pytest.raises(ConfigError, match=r"^ports: .*81 to 80 is not a range; give the lower port first"):
        Rule(action=Action.DROP, ports=((81, 80),))
    wrong: Any = ((1, 2, 3),)
    with pytest.raises(ConfigError, match=r"^ports: .* not a pair"):
        Rule(action=Action.DROP, ports=wrong)


def test_a_rule_without_a_target_has_no_text_of_it() -> None:
    assert Rule(action=Action.ALLOW).target_text == ""
    assert Rule(action=Action.ASK).verdict is None
