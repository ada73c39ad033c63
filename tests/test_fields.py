"""Every field of a record that holds an address, a network or a port takes all its forms, and refuses all else."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
import pkgutil
import re
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address
from typing import Any, Final, TypeAlias, cast

import pytest

import sansnet_cli
import sansnet_core
import sansnet_trio
from sansnet_core import (
    Action,
    Allow,
    ConfigError,
    Endpoint,
    ExtendedError,
    Ipv4Config,
    Ipv6Config,
    Limits,
    LinkConfig,
    NetworkConfig,
    Prefix,
    Refuse,
    Rule,
    SansnetError,
    UdpFiltering,
    addresses,
)
from sansnet_core.ports import TCP, ForwardRule, combine, parse, parse_all
from sansnet_core.records import Record, replace
from sansnet_trio import GuestPlan, HostInfo, InterfaceAddress, ListenAddress, NamespaceOptions, OptionsError, Route

ANY: Final = partial(cast, Any)
"""A value that type checkers accept everywhere."""

_Cases: TypeAlias = dict[str, tuple[dict[Any, Any], tuple[Any, ...]]]

NO_ADDRESSES: Final = ("no address", "10.0.2.256", "", b"abc", bytes(5), 3, -1, 3.5, True, object())
NO_PORTS: Final = (-1, 65536, 70000, True, "80", None, b"80", 80.0)

PORTS: Final[tuple[dict[Any, Any], tuple[Any, ...]]] = (
    {(): (), (5353, 1): (5353, 1)},
    (*((port,) for port in (0, *NO_PORTS)), "53", 53),
)

ADDRESSES4: Final = {"10.0.2.15": b"\n\0\2\x0f", b"\n\0\2\x0f": b"\n\0\2\x0f", IPv4Address("10.0.2.15"): b"\n\0\2\x0f"}
ADDRESSES6: Final = {
    "fe80::1": b"\xfe\x80" + bytes(13) + b"\1",
    IPv6Address("fe80::1"): b"\xfe\x80" + bytes(13) + b"\1",
}
ADDRESSES: Final = ADDRESSES4 | ADDRESSES6
MACS: Final = {
    "02:00:00:00:00:01": b"\2\0\0\0\0\1",
    "02-00-00-00-00-01": b"\2\0\0\0\0\1",
    b"\2\0\0\0\0\1": b"\2\0\0\0\0\1",
}
NO_MACS: Final = (
    "02:00:00:00:00",
    "02:00:00:00:00:0g",
    "01:00:5e:00:00:01",
    b"\2\0\0\0\0",
    bytes([1, 0, 0, 0, 0, 0]),
    5,
    True,
)
PREFIXES: Final = {
    "10.0.0.0/8": (b"\n\0\0\0", 8),
    IPv4Network("10.0.0.0/8"): (b"\n\0\0\0", 8),
    Prefix("10.0.0.0/8"): (b"\n\0\0\0", 8),
    "10.0.2.15": (b"\n\0\2\x0f", 32),
    IPv6Address("::1"): (bytes(15) + b"\1", 128),
}
NO_PREFIXES: Final = (*NO_ADDRESSES, "10.0.0.0/33", "10.0.0.1/8", "::/129", (b"abc", 3), (b"\n\0\0\0", True))
ENDPOINTS: Final = {
    ("10.0.2.2", 53): (b"\n\0\2\2", 53),
    Endpoint(b"\n\0\2\2", 53): (b"\n\0\2\2", 53),
    (IPv4Address("10.0.2.2"), 53): (b"\n\0\2\2", 53),
}
NO_ENDPOINTS: Final = (
    *(("10.0.2.2", port) for port in NO_PORTS),
    *((address, 53) for address in NO_ADDRESSES),
    ("10.0.2.2",),
    "10.0.2.2:53",
    None,
)
INTERFACES: Final = {
    "10.0.2.15/24": (b"\n\0\2\x0f", 24),
    IPv4Interface("10.0.2.15/24"): (b"\n\0\2\x0f", 24),
    ("10.0.2.15", 24): (b"\n\0\2\x0f", 24),
    "2001:db8::1/64": (bytes.fromhex("20010db8000000000000000000000001"), 64),
}
NO_INTERFACES: Final = (
    *NO_ADDRESSES,
    "10.0.2.15/33",
    ("10.0.2.15", 33),
    ("10.0.2.15", -1),
    ("10.0.2.15", True),
    ("x", 8),
)

ONE: Final[_Cases] = {
    "Address": (ADDRESSES, NO_ADDRESSES),
    "OptionalAddress": (ADDRESSES, NO_ADDRESSES),
    "Mac": (MACS, NO_MACS),
    "OptionalMac": (MACS, NO_MACS),
    "Port": ({1: 1, 80: 80, 65535: 65535}, (0, *NO_PORTS)),
    "OptionalEndpoint": (ENDPOINTS, NO_ENDPOINTS[:-1]),
}
SEVERAL: Final[_Cases] = {
    "Addresses": (ADDRESSES, NO_ADDRESSES),
    "OptionalAddresses": (ADDRESSES, NO_ADDRESSES),
    "Endpoints": (ENDPOINTS, NO_ENDPOINTS),
    "Prefixes": (PREFIXES, NO_PREFIXES),
    "InterfaceAddresses": (INTERFACES, NO_INTERFACES),
}
"""Name of a type of `fields` or of `hostinfo` -> values with their bytes, and values that it refuses."""

FAMILY: Final = {
    "Ipv4Config.gateway": 4,
    "Ipv6Config.gateway": 16,
    "NetworkConfig.outbound4": 4,
    "NetworkConfig.outbound6": 16,
}
"""Fields of one family -> its size."""

OWN: Final[_Cases] = {
    "Ipv4Config.address": (
        {"10.0.2.15/24": (b"\n\0\2\x0f", 24), IPv4Interface("10.0.2.15/24"): (b"\n\0\2\x0f", 24)},
        (*NO_ADDRESSES, "10.0.2.15/33", "fe80::1"),
    ),
    "Ipv6Config.address": (
        {**ADDRESSES6, "fe80::1/64": b"\xfe\x80" + bytes(13) + b"\1"},
        (*NO_ADDRESSES, "fe80::1/48"),
    ),
    "Route.destination": (
        {key: value for key, value in PREFIXES.items() if "/" in str(key) and not isinstance(key, tuple)},
        NO_ADDRESSES,
    ),
    "NetworkConfig.dns_forward": (
        {((address, ("10.0.2.2", 53)),): ((b"\n\0\2\x0f", (b"\n\0\2\2", 53)),) for address in ADDRESSES4},
        (
            *(((address, ("10.0.2.2", 53)),) for address in (*NO_ADDRESSES, "::1")),
            *((("10.0.2.15", server),) for server in NO_ENDPOINTS),
            ("10.0.2.15",),
        ),
    ),
    "NetworkConfig.hosts": (
        {(("a", (address,)),): (("a", (packed,)),) for address, packed in ADDRESSES.items()},
        (*((("a", (address,)),) for address in NO_ADDRESSES), (("a", "10.0.2.15"),), ((5, ()),), ("a",)),
    ),
    "NetworkOptions.own": (
        {(given,): (packed,) for given, packed in INTERFACES.items()} | {("10.0.2.15",): ((b"\n\0\2\x0f", None),)},
        tuple((each,) for each in NO_INTERFACES),
    ),
    "NetworkOptions.hosts": (
        {(("a", address),): (("a", packed),) for address, packed in ADDRESSES.items()}
        | {(("a", None),): (("a", None),)},
        (*((("a", address),) for address in NO_ADDRESSES), ((5, "10.0.2.15"),), ("a",)),
    ),
    "GuestPlan.hosts": (
        {((address, ("a", "b")),): ((packed, ("a", "b")),) for address, packed in ADDRESSES.items()},
        tuple(((address, ("a",)),) for address in NO_ADDRESSES),
    ),
    "ProxyConfig.server": (ENDPOINTS, (*NO_ENDPOINTS, ("10.0.2.2", 0))),
    "ResolverConfig.prefix4": (
        {"10.0.0.0/8": (b"\n\0\0\0", 8), IPv4Network("10.0.0.0/8"): (b"\n\0\0\0", 8)},
        (*NO_PREFIXES, "10.0.2.15", "2001:db8::/64"),
    ),
    "ResolverConfig.prefix6": ({"fd00::/64": (b"\xfd" + bytes(15), 64)}, (*NO_PREFIXES, "::1", "10.0.0.0/8")),
    "Rule.ports": (
        {(80,): ((80, 80),), ((1, 65535),): ((1, 65535),)},
        (*((port,) for port in NO_PORTS), ((2, 1),), ((0, 1),), 80),
    ),
    "NetworkConfig.reserved_udp_ports": PORTS,
    "HostInfo.reserved_ports": PORTS,
}
"""Fields with a type of their own -> values with what is kept, and values that they refuse."""

_SUSPICIOUS_TYPE: Final = re.compile(r"\b(bytes|Endpoint|Prefix|InterfaceAddress)\b")
_SUSPICIOUS_NAME: Final = re.compile(r"address|gateway|(^|_)(ports?|mac|first|last|to|target|server)$")
_INNOCENT: Final = {
    "NetworkConfig.learn_addresses",
    "NetworkOptions.copy_addresses",
    "NetworkOptions.map_gateway",
    "NetworkOptions.keep_udp_ports",
    "CommandOptions.ports",
    "Case.to",
    "PolicyCommand.target",
}
"""Switches about addresses and ports, a record, and text that may be a name."""


def records() -> Iterator[type[Record]]:
    for package in (sansnet_core, sansnet_trio, sansnet_cli):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not info.name.endswith("__main__"):
                for value in vars(import_module(info.name)).values():
                    if isinstance(value, type) and issubclass(value, Record) and value.__module__ == info.name:
                        yield value


FIELDS: Final = {
    f"{record.__name__}.{name}": (record, name, str(annotation))
    for record in records()
    if record is not Record
    for name, annotation in record.__annotations__.items()
}


def cases() -> Iterator[tuple[str, dict[Any, Any], tuple[Any, ...]]]:
    for field, (_, _, annotation) in FIELDS.items():
        if field in OWN:
            yield field, *OWN[field]
        elif annotation in ONE:
            good, bad = ONE[annotation]
            if field in FAMILY:
                good = ADDRESSES4 if FAMILY[field] == 4 else ADDRESSES6
                bad = (*NO_ADDRESSES, *(ADDRESSES6 if FAMILY[field] == 4 else ADDRESSES4))
            yield field, good, bad
        elif annotation in SEVERAL:
            good, bad = SEVERAL[annotation]
            yield (
                field,
                {(given,): (kept,) for given, kept in good.items()},
                (*((each,) for each in bad), "10.0.2.15", b"\n\0\2\x0f", 5, Endpoint("10.0.2.15", 53)),
            )


CASES: Final = list(cases())


def test_the_fields_are_found() -> None:
    assert len(CASES) > 40
    assert FIELDS.keys() >= {*FAMILY, *OWN}


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_that_holds_addresses_or_ports_has_a_type_that_checks_them(field: str) -> None:
    """A new field must have one of the types of `fields`, or a case above."""
    _, name, annotation = FIELDS[field]
    suspicious = _SUSPICIOUS_TYPE.search(annotation) or _SUSPICIOUS_NAME.search(name)
    tested = annotation in ONE or annotation in SEVERAL or field in OWN
    assert tested or field in _INNOCENT or not suspicious


@pytest.mark.parametrize(("field", "good", "bad"), CASES, ids=[field for field, _, _ in CASES])
def test_a_field_takes_every_form_and_refuses_all_else(field: str, good: dict[Any, Any], bad: tuple[Any, ...]) -> None:
    record, name, _ = FIELDS[field]
    for given, kept in good.items():
        assert record._converters[name](given) == kept, given
    for wrong in bad:
        with pytest.raises(SansnetError, match=rf"{name}: .*(; | is not )"):
            record(**{name: wrong})


# tuples with names


@pytest.mark.parametrize("address", ADDRESSES)
def test_tuples_take_every_form_of_an_address(address: Any) -> None:
    packed = ADDRESSES[address]
    assert Endpoint(address, 80) == (packed, 80)
    assert Endpoint(address, 80)._replace(port=81) == (packed, 81)
    assert Prefix(address) == (packed, 8 * len(packed))
    assert InterfaceAddress(address, 8) == (packed, 8)
    assert ListenAddress(6, True, address, None, 80) == (6, True, packed, None, 80)


@pytest.mark.parametrize("address", NO_ADDRESSES)
def test_tuples_refuse_what_is_no_address(address: Any) -> None:
    for make in (
        lambda: Endpoint(address, 80),
        lambda: Endpoint("::1", 80)._replace(address=address),
        lambda: Prefix(address),
        lambda: Prefix("::1").contains(address) if not isinstance(address, bytes) else Prefix(address),
        lambda: InterfaceAddress(address, 8),
        lambda: ListenAddress(6, True, address, None, 80),
    ):
        with pytest.raises(ConfigError, match=r" is not |has \d+ bytes"):
            make()


@pytest.mark.parametrize("port", NO_PORTS)
def test_tuples_refuse_what_is_no_port(port: Any) -> None:
    for make in (
        lambda: Endpoint("::1", port),
        lambda: Endpoint("::1", 1)._replace(port=port),
        lambda: ListenAddress(6, True, "::1", None, port),
    ):
        with pytest.raises(ConfigError, match=r"is not a port; give an integer between 0 and 65535"):
            make()


@pytest.mark.parametrize("interface", INTERFACES)
def test_an_address_of_an_interface_may_have_its_prefix_length(interface: Any) -> None:
    made = InterfaceAddress(*interface) if isinstance(interface, tuple) else InterfaceAddress(interface)
    assert made == INTERFACES[interface]
    assert repr(made) == f"InterfaceAddress('{made}')"
    assert InterfaceAddress(str(made)) == made


@pytest.mark.parametrize(
    "wrong", [("10.0.2.15",), ("10.0.2.15", 33), ("10.0.2.15/24", 25), ("10.0.2.15", True), ("::1", -1)]
)
def test_an_address_of_an_interface_needs_one_possible_length(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"prefix_length: .* give InterfaceAddress"):
        InterfaceAddress(*wrong)


# an address and its prefix length


@pytest.mark.parametrize(
    "made",
    [
        Ipv4Config(address="10.0.2.15/24", gateway="10.0.2.2"),
        Ipv4Config(address="10.0.2.15", prefix_length=24, gateway="10.0.2.2"),
        Ipv4Config(address="10.0.2.15/24", prefix_length=24, gateway="10.0.2.2"),
        Ipv4Config(address=IPv4Interface("10.0.2.15/24"), gateway=IPv4Address("10.0.2.2")),
        replace(Ipv4Config(address="10.0.2.1/8", gateway="10.0.2.2"), address="10.0.2.15/24"),
        replace(Ipv4Config(address="10.0.2.1/24", gateway="10.0.2.2"), address="10.0.2.15"),
    ],
)
def test_a_prefix_length_comes_with_the_address_or_alone(made: Ipv4Config) -> None:
    assert (made.address, made.prefix_length, made.gateway) == (b"\n\0\2\x0f", 24, b"\n\0\2\2")


def test_a_prefix_length_that_is_missing_contradicted_or_impossible_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"ipv4\.prefix_length: it is missing; give address='10\.0\.2\.15/24' or "):
        Ipv4Config(address="10.0.2.15", gateway=None)
    with pytest.raises(ConfigError, match=r"ipv4\.prefix_length: 25 contradicts address, which has 24; give one"):
        Ipv4Config(address="10.0.2.15/24", prefix_length=25, gateway=None)
    with pytest.raises(ConfigError, match=r"ipv4\.prefix_length: 33 is not between 0 and 32"):
        Ipv4Config(address="10.0.2.15", prefix_length=33, gateway=None)
    with pytest.raises(ConfigError, match=r"prefix_length: True is not between"):
        Route(destination="10.0.0.0", prefix_length=True)


def test_a_route_may_be_written_as_text() -> None:
    route = Route(destination="0.0.0.0/0", gateway="10.0.2.2")
    assert route == Route(destination=bytes(4), prefix_length=0, gateway=b"\n\0\2\2")
    assert replace(route, destination="10.0.0.0/8").prefix_length == 8
    assert Route(destination=IPv4Network("10.0.0.0/8")) == Route(destination="10.0.0.0", prefix_length=8)


def test_options_of_a_guest_are_written_as_text() -> None:
    options = NamespaceOptions(own=["10.0.2.15/24", "2001:db8::1"], gateways=("10.0.2.2",), mac="02:00:00:00:00:01")
    own = [(len(address), length) for address, length in options.own]  # an inherited field has its type for mypy, too
    assert own == [(4, 24), (16, None)]
    with pytest.raises(
        OptionsError, match=r"gateways: '10.0.2.2' is one value in place of several; write \('10.0.2.2',\)"
    ):
        NamespaceOptions(gateways="10.0.2.2")
    twice: dict[str, Any] = {
        "own": ("10.0.2.15/24", "10.0.2.16"),
        "gateways": ("10.0.2.2", "10.0.2.3"),
        "outbound": ("::1", "::2"),
        "dns_host": (("::1", 53), ("::2", 53)),
    }
    for name, two in twice.items():
        with pytest.raises(OptionsError, match=f"{name}: there are two addresses of one family; give at most one"):
            NamespaceOptions(**{name: two})
    with pytest.raises(OptionsError, match=r"netmask: 33 is not a prefix length between 1 and 32"):
        NamespaceOptions(netmask=33)
    with pytest.raises(OptionsError, match=r"families: \{5\} is not a set of families"):
        NamespaceOptions(families={5})


# endpoints and networks as text


@pytest.mark.parametrize(
    ("endpoint", "text", "code"),
    [
        (Endpoint("10.0.2.2", 80), "10.0.2.2:80", "Endpoint('10.0.2.2', 80)"),
        (Endpoint("::1", 80), "[::1]:80", "Endpoint('::1', 80)"),
        (Endpoint("fe80::1%3", 53), "[fe80::1%3]:53", "Endpoint('fe80::1%3', 53)"),
    ],
)
def test_endpoints_are_shown_as_people_write_them(endpoint: Endpoint, text: str, code: str) -> None:
    assert (str(endpoint), repr(endpoint), f"{endpoint}") == (text, code, text)
    assert eval(code) == endpoint


def test_records_show_addresses_as_text() -> None:
    config = Ipv4Config(address="10.0.2.15/24", gateway="10.0.2.2")
    assert repr(config) == "Ipv4Config(address='10.0.2.15', prefix_length=24, gateway='10.0.2.2')"
    assert eval(repr(config)) == config
    whole = NetworkConfig(
        mac="02:00:00:00:00:01",
        ipv4=config,
        dns_servers=("1.1.1.1", "::1"),
        dns_forward=(("1.1.1.1", ("127.0.0.1", 53)),),
        limits=Limits(udp_flows=5),
        virtual=("10.9.0.0/16",),
    )
    assert str(whole) == (
        f"NetworkConfig(mac='02:00:00:00:00:01', ipv4={config}, dns_servers=('1.1.1.1', '::1'), "
        "dns_forward=(('1.1.1.1', Endpoint('127.0.0.1', 53)),), virtual=(Prefix('10.9.0.0/16'),), "
        "limits=Limits(udp_flows=5))"
    )
    assert eval(str(whole)) == eval(repr(whole), {**globals(), "UdpFiltering": UdpFiltering}) == whole


def test_a_signature_names_the_forms_of_an_address() -> None:
    assert str(inspect.signature(Ipv6Config)) == "(*, address: AnyInterface | None, gateway: AnyAddress)"
    assert str(inspect.signature(Allow)) == "(to: tuple[AnyAddress, int] | None = None)"
    parameters = inspect.signature(NetworkConfig).parameters
    assert str(parameters["virtual"]) == "virtual: Iterable[AnyPrefix] = ()"
    assert str(parameters["guest_mac"]) == "guest_mac: AnyMac | None = None"


def test_networks_are_shown_as_people_write_them() -> None:
    assert (str(Prefix("10.0.0.0/8")), repr(Prefix("::1"))) == ("10.0.0.0/8", "Prefix('::1/128')")


@pytest.mark.parametrize(
    "made", [Endpoint("::1", 80), Prefix("10.0.0.0/8"), InterfaceAddress("::1/64"), Route(destination="::/0")]
)
def test_values_travel_to_other_processes(made: Any) -> None:
    for other in (pickle.loads(pickle.dumps(made)), copy.copy(made), copy.deepcopy(made)):
        assert (other, type(other), hash(other)) == (made, type(made), hash(made))


def test_a_network_contains_the_addresses_that_begin_with_its_bits() -> None:
    assert Prefix("10.0.0.0/8").contains("10.255.0.1")
    assert Prefix("10.0.0.0/8").contains(b"\n\0\0\1")
    assert not Prefix("10.0.0.0/8").contains("11.0.0.0")
    assert not Prefix("::/0").contains("10.0.0.0")
    assert Prefix("0.0.0.0/0").contains(IPv4Address("10.0.0.0"))
    assert Prefix("fe80::/10") == Prefix(bytes.fromhex("fe80") + bytes(14), 10)


@pytest.mark.parametrize(
    "wrong", [("10.0.0.1/8",), ("10.0.0.0/8", 9), ("10.0.0.0", 33), ("10.0.0.0", True), ((b"\n\0\0\0", -1),)]
)
def test_a_network_has_one_possible_length_and_no_bits_beyond(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"give|between"):
        Prefix(*wrong)


def test_zones_are_for_endpoints_of_the_host() -> None:
    assert Endpoint("fe80::1%3", 53).address == addresses.with_zone(addresses.parse("fe80::1"), 3)
    for zone in ("fe80::1%eth0", "2001:db8::1%3", "fe80::1%4294967296"):
        with pytest.raises(ConfigError, match="zone that is not the number of an interface"):
            Endpoint(zone, 53)
    with pytest.raises(ConfigError, match="has a zone, which does not belong here; leave out the %"):
        addresses.packed("fe80::1%3")


# plain fields


@pytest.mark.parametrize(
    ("record", "fields", "message"),
    [
        (LinkConfig, {"mtu": "1500"}, "mtu: '1500' is not an integer"),
        (LinkConfig, {"mtu": True}, "mtu: True is not an integer"),
        (LinkConfig, {"tso4": 1}, "tso4: 1 is not True or False"),
        (Limits, {"udp_idle_once": math.nan}, "udp_idle_once: must be more than 0"),
        (Limits, {"udp_idle_once": None}, "udp_idle_once: None is not a number"),
        (NetworkConfig, {"dns_search": "example.com"}, "dns_search: 'example.com' is not a tuple of texts; write"),
        (NetworkConfig, {"hostname": b"a"}, "hostname: b'a' is not text or None"),
        (NetworkConfig, {"ipv4": "10.0.2.15"}, "ipv4: '10.0.2.15' is not"),
        (NetworkConfig, {"limits": None}, "limits: None is not"),
        (NetworkConfig, {"link": 1500}, "link: 1500 is not"),
        (NetworkConfig, {"udp_filtering": "endpoint-independent"}, "udp_filtering: 'endpoint-independent' is not"),
        (NetworkConfig, {"rules": "refuse"}, "rules: 'refuse' is one value in place of several"),
        (NetworkConfig, {"rules": ("refuse",)}, "rules: 'refuse' is not a value of its type; give Rule"),
        (
            NetworkConfig,
            {"default_action": "refuse"},
            "default_action: 'refuse' is not a value of its type; give Action",
        ),
        (NamespaceOptions, {"limits": 5}, "limits: 5 is not a value of its type; give Limits"),
        (HostInfo, {"ipv4": "eth0"}, "ipv4: 'eth0' is not a value of its type; give Uplink"),
        (GuestPlan, {"routes": ("0.0.0.0/0",)}, "routes: '0.0.0.0/0' is not a value of its type; give Route"),
        (Rule, {"action": "refuse"}, "action: 'refuse' is not a value of its type; give Action"),
        (Rule, {"action": Action.REFUSE, "protocols": "tcp"}, "protocols: 'tcp' is one value in place of several"),
        (Rule, {"action": Action.REFUSE, "protocols": ("icmp",)}, "protocols: 'icmp' is not one of tcp, udp, ping"),
        (Rule, {"action": Action.REFUSE, "errno": 0}, "errno: 0 is not an errno"),
        (Rule, {"action": Action.REFUSE, "to": ("::1", 80)}, "to: it has no effect"),
        (Refuse, {"errno": "EACCES"}, "errno: 'EACCES' is not an errno; give one such as errno.ECONNREFUSED"),
        (ForwardRule, {"protocol": 6, "first": 2, "last": 1, "to": 1}, "last: 1 is below first, 2"),
        (ForwardRule, {"protocol": 6, "first": 1, "last": 9, "to": 65530}, "to: 9 ports from 65530 end beyond 65535"),
        (
            ForwardRule,
            {"protocol": 1, "first": 1, "last": 9, "to": 1},
            "protocol: 1 is neither ports.TCP nor ports.UDP",
        ),
        (
            ForwardRule,
            {"protocol": 6, "first": 0, "last": 9, "to": 1},
            "first: 0 is not a port; give an integer between 1",
        ),
    ],
)
def test_other_fields_are_checked_too(record: type[Record], fields: dict[str, Any], message: str) -> None:
    if record is NetworkConfig:
        fields = {"ipv4": Ipv4Config(address="10.0.2.15/24", gateway=None), **fields}
    with pytest.raises(SansnetError, match=re.escape(message)):
        record(**fields)


def test_the_node_that_sent_an_error_has_an_address() -> None:
    with pytest.raises(ConfigError, match="offender: b'abc' has 3 bytes"):
        ExtendedError(113, 1, 0, 0, 0, b"abc")
    assert ExtendedError(113, 1, 0, 0, 0, None).offender is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: parse(ANY(8080), TCP), "spec: 8080 is not the text of a specification, such as '8080:80'"),
        (lambda: parse("80", ANY("tcp")), "protocol: 'tcp' is neither ports.TCP nor ports.UDP"),
        (lambda: parse_all("8080", TCP), r"specs: '8080' is one specification; give \['8080'\]"),
        (lambda: combine([ANY(None)]), "forwards: None is not a ForwardRule"),
        (lambda: addresses.parse(ANY(5)), "5 is not the text of an address, such as '192.0.2.1'"),
    ],
)
def test_functions_refuse_other_types(call: Callable[[], object], message: str) -> None:
    with pytest.raises(SansnetError, match=message):
        call()


def test_verdicts_take_their_field_by_position() -> None:
    assert Allow(("10.0.2.2", 80)) == Allow(to=Endpoint("10.0.2.2", 80))
    assert Refuse(111) == Refuse(errno=111)
    assert Refuse() != Refuse(111)
    with pytest.raises(TypeError, match="Refuse takes its fields by name: errno"):
        Refuse(1, errno=2)  # type: ignore[misc]  # checkers refuse it, too
