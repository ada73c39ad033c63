"""Texts of users: rules, policies, specifications of ports, addresses.

Wrong text raises the documented error, with a message of one line; right text means the same after it was written
again.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

from fuzz.choices import Choices
from fuzz.registry import target
from sansnet_core import addresses, ports
from sansnet_core.addresses import Endpoint, Prefix
from sansnet_core.errors import ConfigError
from sansnet_core.policy import Policy, PolicyError, dump_policy, load_policy
from sansnet_core.policy.text import parse_endpoint, parse_rules

__all__ = ["addresses_as_text", "policy_file", "ports_to_forward", "rules_as_text"]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _one_line(error: Exception) -> None:
    assert str(error).isprintable() or "\\" in repr(str(error)), "a message for people"
    assert "\n" not in str(error)


_RULES: Final = (
    "allow tcp db.example.org:5432",
    "allow *.example.net port 80,443-445 check=none",
    "refuse errno=113 10.0.0.0/8, metadata",
    "ask in tcp private",
    "drop ping [2001:db8::1]",
    "allow udp example.org at 10.0.0.0/8,host",
    "redirect tcp db.example.org:443 to 127.0.0.1:8443",
    "allow 1.2.3.4:80 via proxy",
    "allow public records=TXT,65",
)


@target(
    max_size=200,
    seeds=lambda: [text.encode() for text in _RULES],
    words=tuple(
        b"allow,refuse,drop,ask,redirect, to , at , port ,tcp,udp,ping,in,check=,errno=,public,*.,:443,/24".split(b",")
    ),
)
def rules_as_text(data: bytes) -> None:
    """A rule in one line."""
    try:
        rules = parse_rules(_text(data))
    except PolicyError as error:
        _one_line(error)
        return
    if any(rule.via for rule in rules):
        return  # a policy must have the proxy
    written = dump_policy(Policy(rules=rules))
    assert load_policy(written).policy.rules == rules


_POLICY: Final = b"""default = "refuse"
names = "own"
rules = ["allow example.org", "refuse udp"]
[[rule]]
action = "allow"
direction = "out"
protocol = ["tcp", "udp"]
to = ["*.example.org", "1.2.3.0/24"]
at = "10.0.0.0/8"
port = [80, "8000-8010"]
check = "none"
records = ["TXT"]
via = "p"
[[proxy]]
name = "p"
kind = "socks5"
server = "192.0.2.1:1080"
[[case]]
to = "a.example.org:443"
expect = "allow"
"""


@target(
    seeds=lambda: [_POLICY], words=(b"[[rule]]\n", b"[[case]]\n", b"[[proxy]]\n", b'to = "', b"port = ", b'expect = "')
)
def policy_file(data: bytes) -> None:
    """A policy in TOML."""
    try:
        policy = load_policy(_text(data), read=lambda name: "user:password").policy
    except PolicyError as error:
        _one_line(error)
        if error.line is not None and error.line < 1:
            raise AssertionError("a line that no file has") from None
        return
    if not policy.proxies:
        again = load_policy(dump_policy(policy)).policy
        assert again.rules == policy.rules
        assert again.names == policy.names


_PORTS: Final = (
    "80",
    "8080:80",
    "all,~22",
    "auto,~1-1023",
    "127.0.0.1/80-90:180-190",
    "[::1]%lo/5:[2001:db8::5]/6",
    "none",
)


@target(
    max_size=200,
    seeds=lambda: [b"\1" + text.encode() for text in _PORTS],
    words=(b"auto", b"all", b",~", b"%eth0/", b"]:"),
)
def ports_to_forward(data: bytes) -> None:
    """A specification of ports to forward."""
    choices = Choices(data)
    inbound = choices.flag()
    text = _text(choices.rest())
    try:
        rules = ports.parse(text, 6, inbound=inbound)
    except ConfigError as error:
        _one_line(error)
        return
    for number, rule in enumerate(rules):
        assert ports.parse(rule.spec(), 6, inbound=inbound) == (rule,)
        assert 1 <= rule.first <= rule.last <= 65535
        assert 1 <= rule.to <= rule.leads_to(rule.last) <= 65535
        for other in rules[:number]:
            same = rule.address == other.address and rule.interface == other.interface
            assert not (same and rule.first <= other.last and other.first <= rule.last), "two rules for one port"


def _addresses() -> Iterable[bytes]:
    return [
        b"192.0.2.1",
        b"2001:db8::1",
        b"192.0.2.0/24",
        b"[2001:db8::1]:53",
        b"::ffff:1.2.3.4",
        b"fe80::1%1",
        b"1.2.3.4:80",
    ]


@target(max_size=100, seeds=_addresses, words=(b"::", b"ffff:", b"/64", b"%1", b"]:53"))
def addresses_as_text(data: bytes) -> None:
    """An address, a prefix, an endpoint."""
    text = _text(data)
    try:
        found = addresses.parse(text)
    except ValueError:
        pass
    else:
        assert addresses.parse(addresses.format(found)) == found
        assert ip_address(text).packed == found
    for read, error in ((Prefix, ConfigError), (parse_endpoint, ValueError)):
        try:
            value: Prefix | Endpoint = read(text)
        except error as wrong:
            _one_line(wrong)
            continue
        if value[1] or read is Prefix:  # port 0 stands for none
            assert read(str(value)) == value
