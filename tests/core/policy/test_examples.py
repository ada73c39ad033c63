"""The evaluator, by examples: each way around a policy that addresses, names and questions offer."""

from __future__ import annotations

from ipaddress import ip_address
from time import process_time

import pytest

from sansnet_core import Action, Endpoint, Prefix, Rule
from sansnet_core.policy import PRESETS, Check, Evaluator, Judgement, parse_rules
from sansnet_core.policy.evaluator import ADDRESS_OF_NAME, OTHER_RESOLVER, QUIC
from sansnet_core.wire.ip import ICMP, ICMPV6, TCP, UDP

PROTOCOLS = {"tcp": TCP, "udp": UDP, "ping": ICMP}
HOST = ("192.168.7.7", "9.9.9.1", "2a00::77")
RESOLVERS = ("10.0.2.3", "1.1.1.1", "fd00::3")


def evaluator(lines: str, default: Action | None = Action.REFUSE) -> Evaluator:
    """Rules with `;` between them."""
    rules = [rule for line in lines.split(";") if line.strip() for rule in parse_rules(line)]
    return Evaluator(rules, default, host=[*map(packed, HOST)], resolvers=[*map(packed, RESOLVERS)])


def packed(text: str) -> bytes:
    return ip_address(text).packed


def judge(lines: str, flow: str, *, default: Action | None = Action.REFUSE, inbound: bool = False) -> Judgement:
    """Judge `PROTOCOL [NAME=]ADDRESS[->HOST] [PORT]`; an address of `?` is not known."""
    protocol, where, *port = flow.split()
    name, _, address = where.rpartition("=")
    address, _, host = address.partition("->")
    number = PROTOCOLS[protocol]
    return evaluator(lines, default).judge(
        ICMPV6 if number == ICMP and ":" in address else number,
        None if address == "?" else packed(address),
        int(port[0]) if port else 0,
        inbound=inbound,
        name=name or None,
        host=packed(host) if host else None,
    )


PUBLIC = "1.2.3.4"


@pytest.mark.parametrize(
    ("lines", "flow", "action"),
    [
        # an address that no name was resolved to
        ("allow tcp a.org:443", f"tcp {PUBLIC} 443", "refuse"),
        ("allow tcp *:443", f"tcp {PUBLIC} 443", "refuse"),
        ("allow tcp a.org:443", f"tcp a.org={PUBLIC} 443", "allow"),
        ("allow tcp a.org:443", f"tcp a.org={PUBLIC} 444", "refuse"),
        ("allow tcp a.org:443", f"tcp b.org={PUBLIC} 443", "refuse"),
        ("allow *.a.org", f"tcp x.y.a.org={PUBLIC} 22", "allow"),
        ("allow *.a.org", f"tcp a.org={PUBLIC} 22", "refuse"),
        ("allow *.a.org", f"tcp bada.org={PUBLIC} 22", "refuse"),
        ("allow A.Org.", f"tcp a.org={PUBLIC} 22", "allow"),
        # a hostile answer
        *(("allow a.org", f"tcp a.org={address} 22", "refuse") for address in ("127.0.0.1", "10.0.0.1", "0.0.0.0")),
        *(("allow a.org", f"tcp a.org={address} 22", "refuse") for address in ("169.254.169.254", "fd00:ec2::254")),
        *(("allow a.org", f"tcp a.org={address} 22", "refuse") for address in ("224.0.0.1", "ff02::1", "::1", "::")),
        *(("allow a.org", f"tcp a.org={address} 22", "refuse") for address in HOST),
        *(("allow *; allow private", f"tcp a.org={address} 22", "refuse") for address in (*HOST, "fd00:ec2::254")),
        *(("ask a.org", f"tcp a.org={address} 22", "refuse") for address in ("127.0.0.1", "fe80::1")),
        *(("allow a.org", f"tcp a.org=64:ff9b::{address} 22", "refuse") for address in ("127.0.0.1", "10.0.0.1")),
        ("allow a.org", "tcp a.org=64:ff9b::8.8.8.8 22", "allow"),
        ("allow a.org; allow 10.0.0.0/8", "tcp a.org=10.0.0.1 22", "allow"),
        ("allow a.org; allow 10.0.0.0/8 port 23", "tcp a.org=10.0.0.1 22", "refuse"),
        ("allow a.org at private", "tcp a.org=10.0.0.1 22", "allow"),
        ("allow a.org at private", f"tcp a.org={PUBLIC} 22", "refuse"),
        ("allow a.org; allow loopback", "tcp a.org=127.0.0.1 22", "allow"),
        ("allow a.org; refuse 1.0.0.0/8", f"tcp a.org={PUBLIC} 22", "refuse"),
        ("allow a.org; drop 1.0.0.0/8", f"tcp a.org={PUBLIC} 22", "drop"),
        ("allow a.org; ask 1.0.0.0/8", f"tcp a.org={PUBLIC} 22", "ask"),
        ("ask a.org; allow 10.0.0.0/8", "tcp a.org=10.0.0.1 22", "ask"),
        ("ask a.org; ask 10.0.0.0/8", "tcp a.org=10.0.0.1 22", "ask"),
        ("ask a.org; refuse 10.0.0.0/8", "tcp a.org=10.0.0.1 22", "refuse"),
        ("redirect tcp a.org:22 to 127.0.0.1:22", "tcp a.org=10.0.0.1 22", "allow"),
        ("allow", "tcp a.org=10.0.0.1 22", "allow"),
        ("allow; refuse private", "tcp a.org=10.0.0.1 22", "refuse"),
        ("allow a.org", "tcp a.org=? 22", "allow"),
        ("allow a.org at private; ask a.org", "tcp a.org=? 22", "ask"),
        # groups that open do not open the host and metadata; groups that close do close them
        ("allow private", "tcp 10.0.0.1 22", "allow"),
        ("allow private", "tcp 192.168.7.7 22", "refuse"),
        ("allow public", "tcp 9.9.9.1 22", "refuse"),
        ("allow public,private,link-local", "tcp 169.254.169.254 80", "refuse"),
        ("allow public,private,link-local", "tcp fd00:ec2::254 80", "refuse"),
        ("allow public,private,link-local", "tcp 168.63.129.16 80", "refuse"),
        ("allow public,private,link-local", "tcp fe80::a9fe:a9fe 80", "refuse"),
        ("allow metadata", "tcp 169.254.169.254 80", "allow"),
        ("allow 169.254.169.254", "tcp 169.254.169.254 80", "allow"),
        ("allow host", "tcp 9.9.9.1 22", "allow"),
        ("refuse link-local; allow", "tcp 169.254.169.254 80", "refuse"),
        ("refuse private; allow", "tcp fd00:ec2::254 80", "refuse"),
        ("refuse private; allow", "tcp 192.168.7.7 80", "refuse"),
        ("refuse public; allow", "tcp 9.9.9.1 80", "refuse"),
        ("refuse metadata; allow", "tcp 169.254.169.254 80", "refuse"),
        ("allow loopback", "tcp 127.0.0.1 80", "allow"),
        ("allow loopback", "tcp 0.0.0.0 80", "allow"),
        ("allow public", "tcp 0.0.0.0 80", "refuse"),
        ("allow public", "tcp 255.255.255.255 80", "refuse"),
        ("allow multicast", "udp 255.255.255.255 80", "allow"),
        ("allow link-local", "tcp fe80::9 80", "allow"),
        # an alias is as the address that it leads to; destinations are those in the packets
        ("allow public", "tcp 10.0.2.2->127.0.0.1 80", "refuse"),
        ("allow private", "tcp 10.0.2.2->127.0.0.1 80", "refuse"),
        ("allow host", "tcp 10.0.2.2->127.0.0.1 80", "allow"),
        ("allow 10.0.2.2", "tcp 10.0.2.2->127.0.0.1 80", "allow"),
        ("allow 127.0.0.1", "tcp 10.0.2.2->127.0.0.1 80", "refuse"),
        ("refuse private; allow", "tcp fd00::2->::ffff:10.0.0.1 80", "refuse"),
        # IPv6 addresses that carry IPv4 addresses
        ("allow public", "tcp 64:ff9b::8.8.8.8 80", "allow"),
        ("allow public", "tcp 64:ff9b::127.0.0.1 80", "refuse"),
        ("refuse 8.8.8.8; allow", "tcp 64:ff9b::8.8.8.8 80", "refuse"),
        ("refuse 8.8.8.8; allow", "tcp 64:ff9b:1::8.8.8.8 80", "refuse"),
        ("refuse 8.8.8.8; allow", "tcp 64:ff9b:1:808:8:800:: 80", "refuse"),
        ("refuse 8.8.8.8; allow", "tcp 64:ff9b:1:8:8:808:: 80", "refuse"),
        ("refuse 8.8.8.8; allow", "tcp 64:ff9b:1:7:8:808:800:: 80", "refuse"),
        ("refuse 8.8.8.8; allow", "tcp 64:ff9b:1::8.8.4.4 80", "allow"),
        ("refuse 8.8.8.8; allow", "tcp 2002:808:808::1 80", "refuse"),
        ("refuse 8.8.8.8; allow", "tcp 2001::808:808:0:0:0:0 80", "refuse"),
        ("refuse 8.8.8.8; allow", "tcp 2001:0:101:101::f7f7:f7f7 80", "refuse"),
        ("refuse 8.8.8.8; allow", "tcp 2a00::5efe:8.8.8.8 80", "refuse"),
        ("refuse 8.8.8.8; allow", "tcp 2a00::200:5efe:8.8.8.8 80", "refuse"),
        ("refuse 8.8.8.8; allow", "tcp ::ffff:8.8.8.8 80", "refuse"),
        ("refuse 8.8.8.8; allow", "tcp ::ffff:0:8.8.8.8 80", "refuse"),
        ("refuse 8.8.8.8; allow", "tcp ::8.8.8.8 80", "refuse"),
        ("ask 8.8.8.8; allow", "tcp 64:ff9b::8.8.8.8 80", "ask"),
        ("refuse 64:ff9b::/96; drop 8.8.8.8; allow", "tcp 64:ff9b::8.8.8.8 80", "drop"),
        ("allow 8.8.8.8", "tcp 64:ff9b::8.8.8.8 80", "refuse"),
        ("allow 8.8.8.8,64:ff9b::/96", "tcp 64:ff9b::8.8.8.8 80", "allow"),
        ("refuse metadata; allow", "tcp 64:ff9b::169.254.169.254 80", "refuse"),
        ("refuse loopback; allow", "tcp ::ffff:127.0.0.1 80", "refuse"),
        # protocols and directions
        ("allow ping", "ping 8.8.8.8", "allow"),
        ("allow ping", "ping 2a00::1", "allow"),
        ("allow ping", "tcp 8.8.8.8 80", "refuse"),
        ("allow port 80", "ping 8.8.8.8", "refuse"),
        ("allow in", "tcp 8.8.8.8 80", "refuse"),
        ("allow out", "tcp 8.8.8.8 80", "allow"),
    ],
)
def test_flows(lines: str, flow: str, action: str) -> None:
    assert judge(lines, flow).action.value == action


@pytest.mark.parametrize("port", [53, 853, 5353, 5355, 137])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_other_resolvers_are_closed_if_rules_have_names(protocol: str, port: int) -> None:
    flow = f"{protocol} 8.8.8.8 {port}"
    names = "refuse x.org; "
    assert judge("allow", flow).action is Action.ALLOW
    for lines in ("allow", "allow public", "allow 8.8.8.8", "ask"):
        assert judge(names + lines, flow) == Judgement(Action.REFUSE, OTHER_RESOLVER)
    assert judge(names, flow, default=None).rule is OTHER_RESOLVER
    assert judge("allow a.org", f"{protocol} a.org=8.8.8.8 {port}").rule is OTHER_RESOLVER
    assert judge(f"{names}allow port {port}", flow).action is Action.ALLOW
    assert judge(f"{names}allow port 1-65535", flow).action is Action.ALLOW
    assert judge(f"{names}drop", flow).action is Action.DROP
    assert judge(f"{names}allow in", flow, inbound=True).action is Action.ALLOW


@pytest.mark.parametrize("resolver", RESOLVERS)
def test_the_resolver_itself_is_open_without_encryption(resolver: str) -> None:
    names = "refuse x.org; "
    assert judge(f"{names}allow", f"udp {resolver} 53").action is Action.ALLOW
    assert judge(f"{names}allow", f"udp {resolver} 853").rule is OTHER_RESOLVER
    assert judge(f"{names}allow port 853", f"tcp {resolver} 853").rule is OTHER_RESOLVER
    assert judge(f"{names}allow", f"udp {resolver} 5353").rule is OTHER_RESOLVER
    assert judge(f"{names}allow resolver port 53", f"udp {resolver} 53").action is Action.ALLOW
    assert judge(f"{names}allow resolver port 53", "udp 8.8.8.8 53").action is Action.REFUSE


@pytest.mark.parametrize(
    ("lines", "flow", "check", "strict"),
    [
        ("allow a.org", f"tcp a.org={PUBLIC} 443", Check.TLS, True),
        ("allow a.org", f"tcp a.org={PUBLIC} 80", Check.HTTP, True),
        ("allow a.org", f"tcp a.org={PUBLIC} 8443", Check.NONE, True),
        ("allow a.org", "tcp a.org=? 443", Check.TLS, True),
        ("ask a.org", "tcp a.org=? 443", Check.TLS, True),
        ("allow a.org check=tls", f"tcp a.org={PUBLIC} 8443", Check.TLS, True),
        ("allow a.org check=none", f"tcp a.org={PUBLIC} 443", Check.NONE, True),
        ("allow a.org check=http", f"tcp a.org={PUBLIC} 443", Check.HTTP, True),
        ("allow public", f"tcp {PUBLIC} 443", Check.NONE, True),
        ("allow public check=tls", f"tcp {PUBLIC} 443", Check.TLS, True),
        ("refuse a.org", f"tcp a.org={PUBLIC} 443", Check.NONE, True),
        ("allow a.org; ask 1.0.0.0/8", f"tcp a.org={PUBLIC} 443", Check.TLS, True),
        ("allow udp a.org", f"udp a.org={PUBLIC} 443", Check.NONE, True),
        ("allow ping a.org check=tls", f"ping a.org={PUBLIC}", Check.NONE, True),
        # rules that refuse names watch connections that another rule allows
        ("refuse evil.org; allow", f"tcp {PUBLIC} 443", Check.TLS, False),
        ("refuse evil.org; allow", f"tcp {PUBLIC} 80", Check.HTTP, False),
        ("refuse evil.org; allow", f"tcp {PUBLIC} 8443", Check.NONE, True),
        ("refuse evil.org check=tls; allow", f"tcp {PUBLIC} 8443", Check.TLS, False),
        ("refuse evil.org check=none; allow", f"tcp {PUBLIC} 443", Check.NONE, True),
        ("drop evil.org; allow", f"tcp b.org={PUBLIC} 443", Check.TLS, False),
        ("refuse evil.org; ask", f"tcp {PUBLIC} 443", Check.TLS, False),
        ("refuse evil.org; allow check=none", f"tcp {PUBLIC} 443", Check.NONE, True),
        ("refuse evil.org; allow check=http", f"tcp {PUBLIC} 443", Check.HTTP, True),
        ("refuse evil.org; allow b.org", f"tcp b.org={PUBLIC} 443", Check.TLS, True),
        ("allow public; refuse evil.org", f"tcp {PUBLIC} 443", Check.NONE, True),
        ("refuse evil.org port 80; allow", f"tcp {PUBLIC} 443", Check.NONE, True),
        ("refuse udp evil.org; allow", f"tcp {PUBLIC} 443", Check.NONE, True),
        ("refuse evil.org at private; allow", f"tcp {PUBLIC} 443", Check.NONE, True),
        ("refuse evil.org at private; allow", "tcp 10.0.0.1 443", Check.TLS, False),
        ("refuse in evil.org; allow", f"tcp {PUBLIC} 443", Check.NONE, True),
    ],
)
def test_checks_of_first_bytes(lines: str, flow: str, check: Check, strict: bool) -> None:
    judged = judge(lines, flow)
    assert (judged.check, judged.strict) == (check, strict)


def test_the_first_bytes_are_judged_with_the_name_that_they_have() -> None:
    """The inspection asks again, with the name from the first bytes."""
    watched = "refuse evil.org; allow"
    assert judge(watched, f"tcp evil.org={PUBLIC} 443").action is Action.REFUSE
    assert judge(watched, f"tcp b.org={PUBLIC} 443").action is Action.ALLOW


@pytest.mark.parametrize(
    ("lines", "flow", "rule"),
    [
        ("allow a.org", f"udp a.org={PUBLIC} 443", None),
        ("allow a.org", f"udp a.org={PUBLIC} 80", None),
        ("allow a.org check=tls", f"udp a.org={PUBLIC} 8443", None),
        ("refuse evil.org; allow", f"udp {PUBLIC} 443", QUIC),
        ("refuse evil.org; allow", f"udp b.org={PUBLIC} 443", QUIC),
        ("refuse evil.org; allow public", f"udp {PUBLIC} 443", QUIC),
    ],
)
def test_quic_is_closed_where_first_bytes_are_checked(lines: str, flow: str, rule: Rule | None) -> None:
    judged = judge(lines, flow)
    assert (judged.action, judged.rule) == (Action.REFUSE, rule)


@pytest.mark.parametrize(
    ("lines", "flow"),
    [
        ("allow a.org", f"udp a.org={PUBLIC} 8443"),
        ("allow udp,tcp a.org", f"udp a.org={PUBLIC} 443"),
        ("allow a.org check=none", f"udp a.org={PUBLIC} 443"),
        ("refuse evil.org; allow", f"udp {PUBLIC} 8443"),
        ("refuse evil.org; allow udp", f"udp {PUBLIC} 443"),
        ("refuse evil.org; allow check=none", f"udp {PUBLIC} 443"),
        ("refuse tcp evil.org; allow", f"udp {PUBLIC} 443"),
        ("allow public", f"udp {PUBLIC} 443"),
        ("allow public; refuse evil.org", f"udp {PUBLIC} 443"),
    ],
)
def test_quic_is_open_elsewhere(lines: str, flow: str) -> None:
    assert judge(lines, flow).action is Action.ALLOW


@pytest.mark.parametrize(
    ("lines", "name", "type_", "action"),
    [
        ("", "a.org", 1, "refuse"),
        ("allow tcp a.org:443", "a.org", 1, "allow"),
        ("allow tcp a.org:443", "b.org", 1, "refuse"),
        ("allow tcp a.org:443", "secret.a.org", 1, "refuse"),
        ("allow *.a.org", "secret.a.org", 1, "allow"),
        ("allow public", "a.org", 1, "refuse"),
        ("ask a.org", "a.org", 1, "ask"),
        ("refuse a.org; allow *", "a.org", 1, "refuse"),
        ("drop a.org; allow *", "a.org", 1, "drop"),
        ("refuse a.org port 80; allow *", "a.org", 1, "allow"),
        ("refuse tcp a.org; allow *", "a.org", 1, "allow"),
        ("refuse a.org at private; allow *", "a.org", 1, "allow"),
        ("refuse in a.org; allow *", "a.org", 1, "allow"),
        ("allow in a.org", "a.org", 1, "refuse"),
        *(("allow a.org", "a.org", type_, "allow") for type_ in (1, 28, 65, 64, 5, 15, 16, 33, 12, 2, 6)),
        *(("allow a.org", "a.org", type_, "refuse") for type_ in (10, 252, 255, 257, 48, 300)),
        ("allow a.org records=CAA,type300", "a.org", 257, "allow"),
        ("allow a.org records=CAA,type300", "a.org", 300, "allow"),
        ("allow a.org records=CAA", "a.org", 255, "refuse"),
        ("allow *.org; allow a.org records=CAA", "a.org", 257, "allow"),
        # without names: by the path to the resolver
        ("allow", "a.org", 255, "allow"),
        ("allow records=CAA", "a.org", 257, "allow"),
        ("allow records=CAA", "a.org", 255, "refuse"),
        ("allow udp resolver port 53", "a.org", 1, "allow"),
        ("allow tcp resolver port 53", "a.org", 1, "refuse"),
        ("allow 10.0.2.3", "a.org", 1, "allow"),
        ("allow 10.0.0.0/8 port 50-60", "a.org", 1, "allow"),
        ("allow 10.0.0.0/8 port 80", "a.org", 1, "refuse"),
        ("allow 8.8.8.8", "a.org", 1, "refuse"),
        ("allow udp", "a.org", 1, "allow"),
        ("ask", "a.org", 1, "ask"),
        ("drop resolver; allow a.org", "a.org", 1, "drop"),
        ("allow a.org; drop resolver", "a.org", 1, "allow"),
        ("refuse 10.0.0.0/8; allow a.org", "a.org", 1, "allow"),
        ("refuse 10.0.0.0/8 port 53; allow a.org", "a.org", 1, "refuse"),
        ("refuse 10.0.0.0/8; allow", "a.org", 1, "allow"),
        # with rules that open names, and nothing public without names: other names are of no use
        ("allow tcp a.org:443; allow udp,tcp resolver port 53", "b.org", 1, "refuse"),
        ("allow udp,tcp resolver port 53; allow tcp a.org:443", "b.org", 1, "refuse"),
        ("ask a.org; allow resolver", "b.org", 1, "refuse"),
        ("allow tcp a.org:443; allow 10.0.0.0/8", "b.org", 1, "refuse"),
        ("allow tcp a.org:443; allow resolver; allow in; allow ping; allow private", "b.org", 1, "refuse"),
        ("allow tcp a.org:443; allow resolver; ask", "b.org", 1, "ask"),
        ("allow tcp a.org:443; allow resolver; ask public; refuse", "b.org", 1, "refuse"),
        ("allow tcp a.org:443; allow resolver; drop resolver", "b.org", 1, "drop"),
        ("allow tcp a.org:443; allow resolver", "a.org", 1, "allow"),
        ("allow in a.org; allow resolver", "b.org", 1, "allow"),
        ("refuse a.org; allow resolver", "b.org", 1, "allow"),
        ("allow tcp a.org:22; allow resolver; allow public port 80,443", "b.org", 1, "allow"),
        ("allow tcp a.org:22; allow resolver; allow 0.0.0.0/0", "b.org", 1, "allow"),
        ("allow tcp a.org:22; allow resolver; allow", "b.org", 1, "allow"),
        ("allow tcp a.org:22; allow * at resolver", "b.org", 1, "allow"),
    ],
)
def test_questions(lines: str, name: str, type_: int, action: str) -> None:
    assert evaluator(lines).question(name, type_).action.value == action


def test_the_default_decides_about_questions_of_all_types() -> None:
    assert evaluator("refuse x.org", Action.ALLOW).question("a.org", 255) == Judgement(Action.ALLOW)
    assert evaluator("refuse x.org", Action.ASK).question("a.org", 255) == Judgement(Action.ASK)


def test_translators_of_the_network_are_read_too() -> None:
    rules = parse_rules("refuse 8.8.8.8")
    for length, address in {
        32: "2a01:db8:808:808::",
        40: "2a01:db8:8:808:8::",
        48: "2a01:db8:1:808:8:800::",
        56: "2a01:db8:1:108:8:808::",
        64: "2a01:db8:1:101:8:808:800:0",
        96: "2a01:db8:1:101::8.8.8.8",
    }.items():
        whole = packed(address)
        prefix = Prefix((whole[: length // 8] + bytes(16 - length // 8), length))
        plain, knowing = Evaluator(rules, None), Evaluator(rules, None, translators=[prefix])
        assert plain.judge(TCP, whole, 80).allowed
        assert not knowing.judge(TCP, whole, 80).allowed
        assert knowing.judge(TCP, packed("2a02::8.8.8.8"), 80).allowed
    for wrong in ("2a01:db8::/33", "10.0.0.0/32"):
        with pytest.raises(
            ValueError, match="is not the prefix of a translator; give an IPv6 prefix with one of 32, 40"
        ):
            Evaluator(rules, None, translators=[Prefix(wrong)])


def test_a_judgement_is_shown_by_its_rule() -> None:
    assert judge('allow public label="the web"', f"tcp {PUBLIC} 80").text == "the web"
    assert judge("allow public port 80", f"tcp {PUBLIC} 80").text == "allow public port 80"
    assert judge("", f"tcp {PUBLIC} 80").text is None
    assert judge("allow a.org", "tcp a.org=127.0.0.1 80").rule is ADDRESS_OF_NAME
    assert judge("refuse(ECONNREFUSED) public", f"tcp {PUBLIC} 80").errno == 111
    assert judge("ask a.org; ask 10.0.0.0/8", "tcp a.org=10.0.0.1 80").text == "ask a.org"
    assert judge("allow a.org; ask 10.0.0.0/8", "tcp a.org=10.0.0.1 80").text == "ask 10.0.0.0/8"


@pytest.mark.parametrize(
    ("preset", "open_", "closed"),
    [
        ("none", [], [f"tcp {PUBLIC} 80", "udp 10.0.2.3 53", "ping 8.8.8.8", "tcp 127.0.0.1 80"]),
        ("dns", ["udp 10.0.2.3 53", "tcp fd00::3 53"], [f"tcp {PUBLIC} 80", "udp 8.8.8.8 53", "tcp 10.0.2.3 80"]),
        (
            "web",
            ["udp 10.0.2.3 53", f"tcp {PUBLIC} 80", f"udp {PUBLIC} 443", "tcp 2a00::1 443"],
            [f"tcp {PUBLIC} 22", "tcp 10.0.0.1 80", "tcp 169.254.169.254 80", "ping 8.8.8.8", "tcp 9.9.9.1 443"],
        ),
        (
            "public",
            ["udp 10.0.2.3 53", f"tcp {PUBLIC} 22", "ping 8.8.8.8", "ping 2a00::1"],
            [
                *(
                    "tcp 10.0.0.1 80",
                    "tcp 127.0.0.1 80",
                    "tcp fe80::1 80",
                    "tcp 169.254.169.254 80",
                    "udp 224.0.0.1 80",
                ),
                *("tcp 192.168.7.7 80", "tcp 10.0.2.2->127.0.0.1 80", "tcp 64:ff9b::10.0.0.1 80", "tcp ::1 80"),
            ],
        ),
        ("open", [f"tcp {PUBLIC} 22", "tcp 127.0.0.1 80", "udp 8.8.8.8 53"], []),
    ],
)
def test_presets(preset: str, open_: list[str], closed: list[str]) -> None:
    policy = PRESETS[preset]
    lines = ";".join(map(str, policy.rules))
    assert {judge(lines, flow, default=policy.default_action).action for flow in open_} <= {Action.ALLOW}
    assert {judge(lines, flow, default=policy.default_action).action for flow in closed} <= {Action.REFUSE}


def test_the_zone_of_an_address_does_not_matter() -> None:
    """The host's side has the index of an interface in the address."""
    with_zone = Endpoint("fe80::a9fe:a9fe%3", 80).address
    rules = parse_rules("allow link-local")
    assert not Evaluator(rules, Action.REFUSE).judge(TCP, packed("fe80::a9fe:a9fe"), 80, host=with_zone).allowed
    own = Evaluator(rules, Action.REFUSE, host=[Endpoint("fe80::1%3", 0).address])
    assert not own.judge(TCP, packed("fe80::1"), 80, host=Endpoint("fe80::1%3", 0).address).allowed
    assert own.judge(TCP, packed("fe80::2"), 80, host=Endpoint("fe80::2%3", 0).address).allowed


def test_judgements_are_fast_and_names_take_no_memory() -> None:
    """A few microseconds each, with 1,000 rules and 10,000 names; the limit leaves room for a busy machine."""
    rules = [
        Rule(action=Action.ALLOW, names=[f"n{number}-{each}.a.org" for each in range(10)], ports=(443,))
        for number in range(1000)
    ]
    before = process_time()
    large = Evaluator(rules, Action.REFUSE)
    assert process_time() - before < 2
    before = process_time()
    for number in range(10_000):
        assert large.judge(TCP, packed(PUBLIC), 443, name="n999-9.a.org").rule is rules[999]
        assert not large.question(f"{number}.b.org", 1).allowed
    assert process_time() - before < 2
    assert len(large._index._named) <= 1024
    long = ".".join("a" * 126)
    before = process_time()
    for number in range(1000):
        assert not large.question(f"{number}.{long}"[:253], 1).allowed
    assert process_time() - before < 2
