"""A second evaluator of rules: slow, and written from the documentation alone."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from sansnet_core.policy import Action, Check, Group, Rule

__all__ = ["SlowEvaluator"]

ORDER = [Action.ALLOW, Action.ASK, Action.REFUSE, Action.DROP]
PROTOCOLS = {"tcp": [6], "udp": [17], "ping": [1, 58]}
PLAIN_TYPES = {1, 28, 65, 64, 5, 15, 16, 33, 12, 2, 6}

METADATA = [
    *("169.254.169.254", "169.254.170.2", "169.254.170.23", "169.254.0.23", "169.254.42.42"),
    *("fe80::a9fe:a9fe", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:42::42"),
    *("100.100.100.200", "192.0.0.192", "168.63.129.16"),
]
SPECIAL = [
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24"),
    *("192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24"),
    *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4", "64:ff9b:1::/48", "100::/64"),
    *("100:0:0:1::/64", "2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"),
    *("5f00::/16", "fc00::/7", "fec0::/10"),
]


def inside(address: bytes, *networks: str) -> bool:
    return any(ip_address(address) in ip_network(network) for network in networks)


class SlowEvaluator:
    """Goes through all rules for each question."""

    def __init__(self, rules: list[Rule], default: Action | None, host: list[bytes], resolvers: list[bytes]) -> None:
        self.rules = rules
        self.default = default or Action.ALLOW
        self.host = host
        self.resolvers = resolvers

    def judge(
        self, protocol: int, address: bytes, port: int, inbound: bool, name: str | None, host: bytes | None
    ) -> tuple[Action, Rule | str | None, Check, bool]:
        readings = [(address, host or address)]
        for other in self.carried(address):
            readings.append((other, other if host in (None, address) else host or b""))
        if host is not None and host != address:
            readings += [(address, other) for other in self.carried(host)]
        found = []
        for where, there in readings:
            action, rule = self.reading(protocol, where, port, inbound, name, there)
            check = Check.NONE
            if isinstance(rule, tuple):  # the rule of the name gives the check
                check, rule = self.check(rule[0], port), rule[1]
            elif isinstance(rule, Rule):
                check = self.check(rule, port)
            if protocol != 6 or inbound or action in (Action.REFUSE, Action.DROP):
                check = Check.NONE
            found.append((action, rule, check))
        worst = max(ORDER.index(action) for action, _, _ in found)
        alike = [each for each in found if ORDER.index(each[0]) == worst]
        action, rule, check = next((each for each in alike if each[2] is not Check.NONE), alike[0])
        named = any(each.names for each in self.rules)
        if action in (Action.REFUSE, Action.DROP) or inbound or not named or protocol not in (6, 17):
            return action, rule, check, True
        ports = isinstance(rule, Rule) and bool(rule.ports)
        if port in (53, 853, 5353, 5355, 137):
            if address in self.resolvers and port in (53, 853):
                ports = port == 53
            if not ports:
                return Action.REFUSE, "resolver", Check.NONE, True
        if check is not Check.NONE or (isinstance(rule, Rule) and rule.check is not None):
            return action, rule, check, True
        for each in self.rules:
            if self.is_match(each, protocol, address, port, inbound, name, host or address):
                break
            denies = each.names and each.action in (Action.REFUSE, Action.DROP)
            if not denies or self.check(each, port) is Check.NONE:
                continue
            if self.is_match(each, protocol, address, port, inbound, None, host or address, names=False):
                if protocol == 6:
                    return action, rule, self.check(each, port), False
                if isinstance(rule, Rule) and "udp" in rule.protocols:
                    break
                return Action.REFUSE, "quic", Check.NONE, True
        return action, rule, check, True

    def reading(
        self, protocol: int, address: bytes, port: int, inbound: bool, name: str | None, host: bytes
    ) -> tuple[Action, Rule | str | tuple[Rule, Rule] | None]:
        matching = [each for each in self.rules if self.is_match(each, protocol, address, port, inbound, name, host)]
        first = matching[0] if matching else None
        action = first.action if first else self.default
        if name is None or action in (Action.REFUSE, Action.DROP):
            return action, first
        if first and (first.destinations or first.groups or first.to):
            return action, first
        for each in matching:
            if each.destinations or each.groups:
                if each.action in (Action.REFUSE, Action.DROP):
                    return each.action, each
                if each.action is Action.ASK and action is Action.ALLOW:
                    assert first
                    return Action.ASK, (first, each)
                return action, first
        if Group.PUBLIC in self.groups(address, host, closing=False):
            return action, first
        if action is Action.ALLOW and not (first and first.names):
            return action, first
        return Action.REFUSE, "address"

    def is_match(
        self,
        rule: Rule,
        protocol: int,
        address: bytes,
        port: int,
        inbound: bool,
        name: str | None,
        host: bytes,
        names: bool = True,
    ) -> bool:
        denies = rule.action in (Action.REFUSE, Action.DROP)
        if rule.inbound is not None and rule.inbound != inbound:
            return False
        if rule.protocols and not any(protocol in PROTOCOLS[each] for each in rule.protocols):
            return False
        if rule.ports and (protocol not in (6, 17) or not any(first <= port <= last for first, last in rule.ports)):
            return False
        checked = not denies and "udp" not in rule.protocols and self.check(rule, port) is not Check.NONE
        if protocol == 17 and not inbound and checked:
            return False
        if rule.destinations or rule.groups:
            member = any(group in rule.groups for group in self.groups(address, host, closing=denies))
            if not member and not any(inside(address, str(prefix)) for prefix in rule.destinations):
                return False
        if names and rule.names:
            return name is not None and any(self.fits(pattern, name) for pattern in rule.names)
        return True

    @staticmethod
    def fits(pattern: str, name: str) -> bool:
        return pattern in ("*", name) or (pattern.startswith("*.") and name.endswith(pattern[1:]))

    @staticmethod
    def check(rule: Rule, port: int) -> Check:
        if rule.check is not None:
            return rule.check
        return {80: Check.HTTP, 443: Check.TLS}.get(port, Check.NONE) if rule.names else Check.NONE

    def groups(self, address: bytes, host: bytes, closing: bool) -> set[Group]:
        found = {Group.RESOLVER} if address in self.resolvers else set()
        metadata = inside(host, *METADATA)
        ours = host in self.host
        if inside(host, "127.0.0.0/8", "0.0.0.0/32", "::1/128", "::/128"):
            return found | {Group.LOOPBACK, Group.HOST}
        if metadata and not closing:
            return found | {Group.METADATA}
        if ours and not closing:
            return found | {Group.HOST}
        found |= {Group.METADATA} if metadata else set()
        found |= {Group.HOST} if ours else set()
        if inside(host, "169.254.0.0/16", "fe80::/10"):
            return found | {Group.LINK_LOCAL}
        if inside(host, "224.0.0.0/4", "255.255.255.255/32", "ff00::/8"):
            return found | {Group.MULTICAST}
        private = inside(host, *SPECIAL) or (len(host) == 16 and not inside(host, "2000::/3", "64:ff9b::/96"))
        return found | {Group.PRIVATE if private else Group.PUBLIC}

    @staticmethod
    def carried(address: bytes) -> list[bytes]:
        if len(address) == 4:
            return []
        value = IPv6Address(address)
        found: list[IPv4Address] = []
        if value.sixtofour:
            found.append(value.sixtofour)
        if value.teredo:
            found += value.teredo
        if value.ipv4_mapped:
            found.append(value.ipv4_mapped)
        last = IPv4Address(address[12:])
        if inside(address, "64:ff9b::/96", "::ffff:0:0:0/96"):
            found.append(last)
        if inside(address, "::/96") and int(value) > 1:
            found.append(last)
        if inside(address, "64:ff9b:1::/48"):
            text = address.hex()
            readings = [text[12:16] + text[18:22], text[14:16] + text[18:24], text[18:26], text[24:]]
            found += [IPv4Address(bytes.fromhex(each)) for each in readings if each[:2] != "00"]
        if address[8:12].hex() in ("00005efe", "02005efe"):
            found.append(last)
        return [each.packed for each in found]

    def is_limited_to_names(self) -> bool:
        """Rules open names, and nothing without names allows public addresses over TCP or UDP."""
        if self.default is Action.ALLOW:
            return False
        for rule in self.rules:
            if rule.action is Action.ALLOW and not rule.names and not rule.inbound:
                everywhere = any(str(prefix) in ("0.0.0.0/0", "::/0") for prefix in rule.destinations)
                everywhere = everywhere or Group.PUBLIC in rule.groups or not (rule.destinations or rule.groups)
                if everywhere and set(rule.protocols) != {"ping"}:
                    return False
        opening = [rule for rule in self.rules if rule.action in (Action.ALLOW, Action.ASK) and not rule.inbound]
        return any(rule.names for rule in opening)

    def question(self, name: str, type_: int) -> tuple[Action, Rule | None]:
        for rule in self.rules:
            denies = rule.action in (Action.REFUSE, Action.DROP)
            if rule.inbound:
                continue
            if rule.names:
                if not any(self.fits(pattern, name) for pattern in rule.names):
                    continue
                if denies and (rule.ports or rule.protocols or rule.destinations or rule.groups):
                    continue
                if not denies and type_ not in PLAIN_TYPES and type_ not in rule.record_types:
                    continue
                return rule.action, rule
            if rule.protocols and "udp" not in rule.protocols:
                continue
            if rule.ports and not any(first <= 53 <= last for first, last in rule.ports):
                continue
            named = any(inside(address, str(prefix)) for address in self.resolvers for prefix in rule.destinations)
            if denies and not rule.ports:
                named = False
            if (rule.destinations or rule.groups) and not named and Group.RESOLVER not in rule.groups:
                continue
            if not denies and rule.record_types and type_ not in PLAIN_TYPES and type_ not in rule.record_types:
                continue
            if not denies and (rule.destinations or rule.groups) and self.is_limited_to_names():
                continue
            return rule.action, rule
        return self.default, None
