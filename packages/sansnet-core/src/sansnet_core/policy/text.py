"""The text form of rules: one line for each.

    RULE   = ACTION ["(" ERRNO ")"] ["in" | "out"] [PROTOCOL,...] [DESTS] ["port" PORTS] ["to" ENDPOINT] [KEY=VALUE ...]
    ACTION = allow | refuse | drop | ask | redirect
    DESTS  = any | DEST,... | NAME,... "at" PLACE,...
    DEST   = NAME | PLACE, each with [":" PORT]
    PLACE  = an address, a network, or a word for a group
    NAME   = example.org | *.example.org | *
    PORTS  = PORT | PORT-PORT, several with commas
    KEY    = check | label | via | records

An IPv6 address before a port is in brackets. A name that is one of the words of this form has a dot at its end.
"""

from __future__ import annotations

import errno as errnos
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeVar

from sansnet_core.addresses import Endpoint, Prefix, packed
from sansnet_core.errors import ConfigError
from sansnet_core.policy.names import pattern
from sansnet_core.policy.policy import PolicyError
from sansnet_core.policy.rule import PROTOCOLS, Action, Check, Group, Rule, mistaken

__all__ = [
    "Destinations",
    "parse_action",
    "parse_check",
    "parse_destination",
    "parse_destinations",
    "parse_endpoint",
    "parse_errno",
    "parse_port",
    "parse_ports",
    "parse_prefix",
    "parse_rule",
    "parse_rules",
    "rules_of",
    "split_port",
]

T = TypeVar("T")

_KEYS: Final = ("check", "label", "via", "records")
_GROUPS: Final = {group.value: group for group in Group}
_FORM: Final = "write for example 'allow tcp example.org:443'"


class Destinations(NamedTuple):
    """The destinations of a rule.

    Attributes:
        names: patterns.
        prefixes: networks.
        groups: groups.
        ports: the port that was given with each of them.
    """

    names: tuple[str, ...] = ()
    prefixes: tuple[Prefix, ...] = ()
    groups: tuple[Group, ...] = ()
    ports: tuple[tuple[int, int], ...] = ()


def parse_rule(text: str) -> Rule:
    """Parse one rule in its text form, such as "allow tcp example.org:443".

    Raises:
        PolicyError: it is wrong, or names both host names and addresses as alternatives, which takes two rules.
    """
    rules = parse_rules(text)
    if len(rules) != 1:
        raise PolicyError(
            f"{text!r:.200} has names and addresses; write two rules, or 'NAME at ADDRESS' for names at such addresses"
        )
    return rules[0]


def parse_rules(text: str) -> tuple[Rule, ...]:
    """Parse one line. If it has both host names and addresses as alternatives, they become two rules.

    Raises:
        PolicyError: it is wrong.
    """
    if not isinstance(text, str):
        raise PolicyError(f"{text!r:.100} is not the text of a rule; {_FORM}")
    return _Line(text).rules()


def parse_destination(text: str, action: Action) -> tuple[Rule, ...]:
    """Parse the argument of the options `--allow` and `--refuse`: a rule without its action.

    A rule that allows something at a port, and names no protocol, is about TCP alone.

    Raises:
        PolicyError: it is wrong.
    """
    rules = _Line(f"{action.value} {text}").rules()
    if action is Action.REFUSE or rules[0].protocols or not rules[0].ports:
        return rules
    return tuple(rule.__replace__(protocols=("tcp",)) for rule in rules)


class _Line:
    """One rule as text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._words = list(_split(text))
        self._next = 0
        self._where = ""

    def rules(self) -> tuple[Rule, ...]:
        if not self._words:
            raise PolicyError(f"the rule is empty; {_FORM}")
        values: dict[str, Any] = {}
        action, values["errno"] = self._field("action", _action, self._take())
        if self._peek() in ("in", "out"):
            values["inbound"] = self._take() == "in"
        if self._peek().partition(",")[0] in PROTOCOLS:
            values["protocols"] = tuple(self._field("protocol", _protocol, each) for each in _items(self._take()))
        where, at = self._destinations()
        ports = where.ports
        if self._peek() == "port":
            self._take()
            if ports:
                raise self._error("port", "it is given twice; give it once")
            ports = self._field("port", parse_ports, self._take("the ports"))
        if self._peek() == "to":
            self._take()
            values["to"] = self._field("to", parse_endpoint, self._take("the endpoint"))
        values |= self._keys()
        if (action == "redirect") is ("to" not in values):
            raise self._error("to", "redirect needs 'to ADDRESS:PORT', and nothing else has it")
        if values["errno"] is None:
            del values["errno"]
        kind = Action.ALLOW if action == "redirect" else Action(action)
        try:
            return rules_of(where, at, action=kind, ports=ports, **values)
        except ConfigError as wrong:
            raise PolicyError(f"{wrong}, in {self.text!r:.200}") from None

    def _destinations(self) -> tuple[Destinations, Destinations | None]:
        word = self._peek()
        if not word or word in ("port", "to") or self._is_key(word):
            return Destinations(), None
        self._where = word
        where = self._field("destination", parse_destinations, _items(self._take()))
        if self._peek() != "at":
            return where, None
        self._take()
        at = self._field("at", parse_destinations, _items(self._take("the addresses")))
        return where, at

    def _keys(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while word := self._peek():
            key, is_key, value = word.partition("=")
            if not is_key or key not in _KEYS:
                raise self._error(None, f"{word!r:.100} is not expected there{self._behind()}; {_FORM}")
            self._take()
            name = "record_types" if key == "records" else key
            if name in values:
                raise self._error(key, "it is given twice; give it once")
            if key == "check":
                values[name] = self._field(key, parse_check, value)
            else:
                values[name] = _items(value) if key == "records" else value
        return values

    def _behind(self) -> str:
        """The part of an error that tells how the word before was read, if it may be meant in another way."""
        before = self._words[self._next - 1]
        if before != self._where or "." in before:
            return ""
        return f", since {before!r:.100} was read as a destination"

    def _is_key(self, word: str) -> bool:
        return word.partition("=")[0] in _KEYS and "=" in word

    def _peek(self) -> str:
        return self._words[self._next] if self._next < len(self._words) else ""

    def _take(self, wanted: str = "") -> str:
        word = self._peek()
        if not word:
            raise self._error(None, f"it ends before {wanted}; {_FORM}")
        self._next += 1
        return word

    def _field(self, field: str, parse: Callable[[Any], T], given: Any) -> T:
        try:
            return parse(given)
        except ValueError as wrong:
            raise self._error(field, str(wrong)) from None

    def _error(self, field: str | None, problem: str) -> PolicyError:
        return PolicyError(f"{problem}, in {self.text!r:.200}", field=field)


def rules_of(where: Destinations, at: Destinations | None, **values: Any) -> tuple[Rule, ...]:
    """The rules for destinations of which each may match: one, or two if there are both names and addresses.

    Args:
        where: the alternatives.
        at: addresses that names must have; None if there is no such condition.
        **values: the other fields of the rules.

    Raises:
        ConfigError: a field is wrong.
    """
    if at is not None:
        if not where.names or where.prefixes or where.groups:
            raise PolicyError("only names can be restricted to addresses; write 'NAME at ADDRESS'", field="at")
        if at.names or at.ports or not (at.prefixes or at.groups):
            raise PolicyError("give networks and groups alone", field="at")
        return (Rule(names=where.names, destinations=at.prefixes, groups=at.groups, **values),)
    rules = []
    if where.names:
        rules.append(Rule(names=where.names, **values))
    if where.prefixes or where.groups or not where.names:
        rules.append(Rule(destinations=where.prefixes, groups=where.groups, **values))
    return tuple(rules)


def parse_destinations(texts: list[str]) -> Destinations:
    """Parse a list of names, addresses, networks and groups, each of which may have a port.

    Raises:
        ValueError: one is wrong, `any` is not alone, or the ports differ.
    """
    names: list[str] = []
    prefixes: list[Prefix] = []
    groups: list[Group] = []
    ports: list[str] = []
    for text in texts:
        where, port = split_port(text)
        ports.append(port)
        if where == "any":
            if len(texts) > 1:
                raise ValueError("'any' stands for all destinations; leave out the others")
        elif where in _GROUPS:
            groups.append(_GROUPS[where])
        else:
            found = parse_prefix(where)
            if found is None:
                if group := mistaken(where):
                    raise ValueError(
                        f"{where!r:.100} is not a group; write {group!r}, or '{where}.' for a host of that name"
                    )
                names.append(pattern(where))
            else:
                prefixes.append(found)
    if len(set(ports)) > 1:
        raise ValueError("the destinations have different ports; write a rule for each port")
    return Destinations(tuple(names), tuple(prefixes), tuple(groups), parse_ports(ports[0]) if any(ports) else ())


def split_port(text: str) -> tuple[str, str]:
    """A destination and the port behind it, as text; the latter is empty if there is none.

    Raises:
        ValueError: it is neither.
    """
    if text.startswith("["):
        where, bracket, rest = text[1:].partition("]")
        if not bracket or ":" not in where or (rest and (not rest.startswith(":") or rest == ":")):
            raise ValueError(f"{text!r:.100} is not an IPv6 address with a port; write '[2001:db8::1]:443'")
        return where, rest[1:]
    if text.count(":") != 1:
        return text, ""
    where, _, port = text.partition(":")
    if not where or not port:
        raise ValueError(f"{text!r:.100} is not a destination with a port; write 'example.org:443'")
    return where, port


def parse_prefix(text: str) -> Prefix | None:
    """An address or a network; None if it is neither, and may be a name.

    Raises:
        ValueError: it looks like an address, and is none.
    """
    looks = ":" in text or "/" in text or text.replace(".", "").isdigit()
    if not looks:
        return None
    if "/" not in text and text.count(".") < 3 and ":" not in text:
        if text.isdigit():
            raise ValueError(f"{text!r:.100} is not a destination; write 'port {text:.20}' for a port")
        return None
    _check_address(text.partition("/")[0], text, "a network; write for example '192.0.2.0/24', or an address alone")
    return Prefix(text)


def parse_ports(text: str) -> tuple[tuple[int, int], ...]:
    """Parse ports, such as "443,8000-8100".

    Raises:
        ValueError: they are wrong.
    """
    found = []
    for each in _items(text):
        first, dash, last = each.partition("-")
        found.append((parse_port(first, each), parse_port(last, each) if dash else parse_port(first, each)))
        if found[-1][0] > found[-1][1]:
            raise ValueError(f"{each!r:.100} is not a range; give the lower port first")
    return tuple(found)


def parse_port(text: str, whole: str | None = None) -> int:
    """Parse a port from 1 to 65535.

    Args:
        text: the port.
        whole: the range that it is a part of, for the error.

    Raises:
        ValueError: it is wrong.
    """
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    if not 1 <= number <= 65535:
        raise ValueError(
            f"{text if whole is None else whole!r:.100} is not a port from 1 to 65535, nor a range such as 8000-8100"
        )
    return number


def parse_endpoint(text: str) -> Endpoint:
    """Parse an address and a port, such as "127.0.0.1:8443" or "[::1]:8443"; an address alone has port 0.

    Raises:
        ValueError: it is wrong.
    """
    where, port = split_port(text)
    _check_address(where, where, "an IP address; write for example '192.0.2.1:8443' or '[2001:db8::1]:8443'")
    if port:
        return Endpoint(where, parse_port(port))
    return Endpoint(where, 0)


def parse_errno(text: str) -> int:
    """Parse the name of an errno, such as "ECONNREFUSED", or its number.

    Raises:
        ValueError: there is none of that name.
    """
    number = getattr(errnos, text, None) if text.startswith("E") else None
    if text.isascii() and text.isdigit() and len(text) < 5:
        number = int(text)
    if not isinstance(number, int) or not 0 < number < 4096:
        raise ValueError(f"{text!r:.100} is not an errno; give one such as ECONNREFUSED")
    return number


def parse_action(text: str) -> str:
    """Check the word for an action: that of an `Action`, or "redirect".

    Raises:
        ValueError: it is another word.
    """
    words = [*(action.value for action in Action), "redirect"]
    if text not in words:
        raise ValueError(f"{text!r:.100} is not one of {', '.join(words)}")
    return text


def parse_check(text: str) -> Check:
    """Parse the word for a check.

    Raises:
        ValueError: it is another word.
    """
    words = [check.value for check in Check]
    if text not in words:
        raise ValueError(f"{text!r:.100} is not one of {', '.join(words)}")
    return Check(text)


def _action(text: str) -> tuple[str, int | None]:
    """An action, and the errno behind it in parentheses."""
    word, parenthesis, rest = text.partition("(")
    if parenthesis and not rest.endswith(")"):
        raise ValueError(f"{text!r:.100} is not an action with an errno; write 'refuse(ECONNREFUSED)'")
    return parse_action(word), parse_errno(rest[:-1]) if parenthesis else None


def _protocol(text: str) -> str:
    if text not in PROTOCOLS:
        raise ValueError(f"{text!r:.100} is not one of {', '.join(PROTOCOLS)}")
    return text


def _check_address(where: str, given: str, wanted: str) -> None:
    try:
        packed(where, zone=True)
    except ConfigError:
        raise ValueError(f"{given!r:.100} is not {wanted}") from None


def _items(text: str) -> list[str]:
    return text.split(",")


def _split(text: str) -> Iterator[str]:
    """The words of a line. Blanks in quotes, and beside commas, do not end one."""
    word = ""
    inside = escaped = joined = False
    for position, each in enumerate(text):
        if escaped:
            word += each
            escaped = False
        elif inside and each == "\\":
            escaped = True
        elif each == '"':
            if not inside and not word.endswith("="):
                raise PolicyError(f'a quote is only possible behind a key, as in label="...", in {text!r:.200}')
            inside, joined = not inside, False
            after = text[position + 1 : position + 2]
            if not inside and after and not after.isspace():
                raise PolicyError(f"a blank is missing behind the quote, in {text!r:.200}")
        elif each.isspace() and not inside:
            if word and not joined and not text[position:].lstrip().startswith(","):
                yield word
                word = ""
        else:
            word += each
            joined = each == "," and not inside
    if inside:
        raise PolicyError(f"a quote is not closed, in {text!r:.200}")
    if word:
        yield word
