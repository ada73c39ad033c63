"""Policies as TOML files.

default = "refuse"            # allow, refuse, drop or ask; refuse if it is left out
preset = "dns"                # its rules come after those of the file; its default counts if there is none here
names = "own"                 # or "real"
rules = ["allow tcp git.example.org:22"]    # in the text form; they come before the tables

[[rule]]
label = "packages"
action = "allow"              # or refuse, drop, ask, redirect; everything else may be left out
direction = "out"             # or "in"
protocol = "tcp"              # or udp, ping, or a list
to = ["packages.example.org", "10.0.0.0/8", "private"]      # each of them, perhaps with a port
at = "private"                # the addresses that the names in `to` must have
port = [443, "8000-8100"]
check = "tls"                 # or http, none
errno = "ECONNREFUSED"        # of refuse
redirect = "127.0.0.1:8443"
via = "office"
records = ["CAA"]

[[proxy]]
name = "office"
kind = "socks5"               # or http
server = "10.0.0.1:1080"
credentials = "FILE"

[[case]]
to = "packages.example.org:443"
expect = "allow"
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Any, Final, TypeVar

from sansnet_core import fields
from sansnet_core.errors import ConfigError
from sansnet_core.policy.cases import Case, PolicyFile
from sansnet_core.policy.policy import NameMode, Policy, PolicyError, ProxyConfig, ProxyKind
from sansnet_core.policy.positions import Path, lines
from sansnet_core.policy.presets import preset
from sansnet_core.policy.rule import PROTOCOLS, Action, Rule, type_number
from sansnet_core.policy.text import (
    Destinations,
    parse_action,
    parse_check,
    parse_destinations,
    parse_endpoint,
    parse_errno,
    parse_ports,
    parse_rules,
    rules_of,
)

__all__ = ["load_policy", "parse_credentials"]

T = TypeVar("T")
E = TypeVar("E", bound=Enum)


_RULE: Final = {"label", "action", "direction", "protocol", "to", "at", "port", "check", "errno", "redirect", "via"}
_KEYS: Final = {
    "": {"default", "preset", "names", "rules", "rule", "proxy", "case"},
    "rule": _RULE | {"records"},
    "proxy": {"name", "kind", "server", "credentials"},
    "case": {"label", "to", "protocol", "direction", "at", "question", "type", "expect"},
}
"""Table -> its keys."""

_FIELDS: Final = {"to": "redirect", "record_types": "records"}
"""Field of `Rule` -> key, where they differ."""
_CASE_FIELDS: Final = {"at": "addresses", "direction": "inbound"}
"""Key -> field of `Case`, where they differ."""


def load_policy(text: str, *, file: str | None = None, read: Callable[[str], str] | None = None) -> PolicyFile:
    """Read a policy.

    Args:
        text: the contents of the file.
        file: its name, for errors.
        read: returns the text of a file with credentials, whose name it gets as the policy gives it; its OSError
            becomes the error of the policy. Without it, a policy cannot have credentials.

    Raises:
        PolicyError: it is wrong; the error has the line and the field.
    """
    if not isinstance(text, str):
        raise PolicyError(f"{text!r:.100} is not the text of a policy", file=file)
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as wrong:
        problem, _, place = str(wrong).partition(" (at ")
        number = place.removeprefix("line ").partition(",")[0]
        line = int(number) if number.isdigit() else text.count("\n") + (not text.endswith("\n"))
        raise PolicyError(f"it is not TOML: {problem}", line=line, file=file) from None
    except RecursionError:
        raise PolicyError("it is not a policy: its tables are nested too deeply", file=file) from None
    return _Reader(text, table, file, read).read()


def parse_credentials(text: str) -> tuple[str, str]:
    """The user and the password of a proxy, from the text of a file whose first line is `USER:PASSWORD`.

    Raises:
        PolicyError: the line is wrong.
    """
    user, colon, password = text.partition("\n")[0].removesuffix("\r").partition(":")
    if not user or not colon:
        raise PolicyError("the first line of a file with credentials is USER:PASSWORD")
    if len(user.encode()) > 255 or len(password.encode()) > 255:
        raise PolicyError("a user or a password has more than 255 bytes, which no proxy takes")
    return user, password


class _Reader:
    """Makes a policy from parsed TOML; knows the place of each value."""

    def __init__(self, text: str, table: dict[str, Any], file: str | None, read: Callable[[str], str] | None) -> None:
        self._text = text
        self._table = table
        self._file = file
        self._read = read
        self._found: dict[Path, int] | None = None

    def read(self) -> PolicyFile:
        """The policy and its cases."""
        self._check_keys((), self._table)
        found = [*self._text_rules(), *self._rules()]
        rules = [rule for _, some in found for rule in some]
        places = [place for place, some in found for _ in some]
        proxies = self._proxies()
        self._check_proxies(zip(places, rules, strict=True), [proxy.name for proxy in proxies])
        behind = self._top("preset", lambda given: preset(_word(given))) or Policy(default_action=Action.REFUSE)
        policy = Policy(
            rules=(*rules, *behind.rules),
            default_action=self._top("default", lambda given: _choice(given, Action)) or behind.default_action,
            names=self._top("names", lambda given: _choice(given, NameMode)),
            proxies=proxies,
        )
        cases = tuple(self._case(place, each) for place, each in self._tables("case"))
        numbers = (*(self._lines().get(place, 0) for place in places), *(0 for _ in behind.rules))
        return PolicyFile(policy=policy, cases=cases, lines=numbers)

    def _top(self, key: str, convert: Callable[[object], T]) -> T | None:
        return self._value((key,), convert, self._table[key]) if key in self._table else None

    def _text_rules(self) -> Iterator[tuple[Path, tuple[Rule, ...]]]:
        given = self._table.get("rules", [])
        if not isinstance(given, list):
            raise self._error(("rules",), 'it is not a list; write rules = ["allow tcp example.org:443"]')
        if any(isinstance(each, dict) for each in given):
            raise self._error(("rules",), "it is for rules as text; write [[rule]] above each table")
        for number, text in enumerate(given):
            yield ("rules", number), self._value(("rules", number), parse_rules, text)

    def _rules(self) -> Iterator[tuple[Path, tuple[Rule, ...]]]:
        for place, table in self._tables("rule"):
            yield place, self._rule(place, table)

    def _rule(self, place: Path, table: dict[str, Any]) -> tuple[Rule, ...]:
        def get(key: str, convert: Callable[[Any], T]) -> T | None:
            return self._value((*place, key), convert, table[key]) if key in table else None

        def items(key: str, convert: Callable[[Any], T]) -> Iterator[T]:
            given = table.get(key, [])
            if not isinstance(given, list):
                yield self._value((*place, key), convert, given)
                return
            if key in table and not given:
                raise self._error((*place, key), "it is an empty list; leave it out if it does not matter")
            for number, each in enumerate(given):
                yield self._value((*place, key, number), convert, each)

        if "action" not in table:
            raise self._error(place, "it has no action; give one of allow, refuse, drop, ask, redirect", "action")
        action = get("action", lambda given: parse_action(_word(given)))
        to = get("redirect", lambda given: parse_endpoint(_word(given)))
        if action == "redirect" and to is None:
            raise self._error(place, "a rule with the action redirect needs it", "redirect")
        kind = Action.ALLOW if action == "redirect" else Action(action)
        where = self._destinations(place, "to", list(items("to", _destination)))
        at = self._destinations(place, "at", list(items("at", _destination))) if "at" in table else None
        ports = tuple(each for some in items("port", _ports) for each in some)
        if where.ports and "port" in table:
            raise self._error((*place, "port"), "the destinations have a port already; give it once")
        values: dict[str, Any] = {
            "label": get("label", _word),
            "inbound": get("direction", _direction),
            "protocols": tuple(items("protocol", _protocol)),
            "to": to,
            "check": get("check", lambda given: parse_check(_word(given))),
            "via": get("via", _word),
            "record_types": tuple(items("records", type_number)),
        }
        if "errno" in table:
            values["errno"] = get("errno", lambda given: parse_errno(str(given)))
        try:
            return rules_of(where, at, action=kind, ports=ports or where.ports, **values)
        except ConfigError as wrong:
            name, _, problem = str(wrong).partition(": ")
            raise self._error((*place, _FIELDS.get(name, name)), problem) from None

    def _destinations(self, place: Path, key: str, found: list[Destinations]) -> Destinations:
        """All destinations of a list together."""
        ports = {each.ports for each in found}
        if len(ports) > 1:
            raise self._error((*place, key), "the destinations have different ports; write a rule for each port")
        whole = [each for each in found if not (each.names or each.prefixes or each.groups)]
        if whole and len(found) > 1:
            raise self._error((*place, key), "'any' stands for all destinations; leave out the others")
        return Destinations(
            tuple(name for each in found for name in each.names),
            tuple(prefix for each in found for prefix in each.prefixes),
            tuple(group for each in found for group in each.groups),
            next(iter(ports), ()),
        )

    def _proxies(self) -> tuple[ProxyConfig, ...]:
        proxies: list[ProxyConfig] = []
        for place, table in self._tables("proxy"):
            made = self._proxy(place, table)
            if any(proxy.name == made.name for proxy in proxies):
                raise self._error((*place, "name"), f"two proxies have the name {made.name!r}; rename one")
            proxies.append(made)
        return tuple(proxies)

    def _proxy(self, place: Path, table: dict[str, Any]) -> ProxyConfig:
        values: dict[str, Any] = {}
        for key, convert in _PROXY.items():
            if key not in table:
                raise self._error(place, "it is missing", key)
            values[key] = self._value((*place, key), convert, table[key])
        if "credentials" in table:
            found = self._value((*place, "credentials"), self._credentials, table["credentials"])
            values["user"], values["password"] = found
        return ProxyConfig(**values)

    def _check_proxies(self, rules: Iterable[tuple[Path, Rule]], known: list[str]) -> None:
        for place, rule in rules:
            if rule.via is not None and rule.via not in known:
                given = ", ".join(known) or "none"
                raise self._error((*place, "via"), f"{rule.via!r} is not the name of a proxy; there are: {given}")

    def _credentials(self, given: object) -> tuple[str, str]:
        name = _word(given)
        if self._read is None:
            raise ValueError(f"{name!r:.200} cannot be read here; give the credentials in another way")
        try:
            return parse_credentials(self._read(name))
        except OSError as wrong:
            raise ValueError(f"{name!r:.200} cannot be read: {wrong.strerror or wrong}") from None
        except UnicodeError:
            raise ValueError(f"{name!r:.200} is not text in UTF-8") from None

    def _case(self, place: Path, table: dict[str, Any]) -> Case:
        if "expect" not in table:
            raise self._error(place, "it is missing; give allow, refuse, drop, ask or redirect", "expect")
        values: dict[str, Any] = {
            _CASE_FIELDS.get(key, key): self._value((*place, key), _direction if key == "direction" else _word, given)
            for key, given in table.items()
            if key != "at"
        }
        if "at" in table:
            values["addresses"] = table["at"] if isinstance(table["at"], list) else [table["at"]]
        try:
            return Case(line=self._lines().get(place, 0), **values)
        except ConfigError as wrong:
            name, _, problem = str(wrong).partition(": ")
            keys = {field: key for key, field in _CASE_FIELDS.items()}
            raise self._error((*place, keys.get(name, name)), problem) from None

    def _tables(self, key: str) -> list[tuple[Path, dict[str, Any]]]:
        given = self._table.get(key, [])
        if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
            remedy = f"write [[{key}]] above each"
            if key == "rule":
                remedy += ', or rules = ["..."] for rules as text'
            raise self._error((key,), f"it is not a list of tables; {remedy}")
        found: list[tuple[Path, dict[str, Any]]] = [((key, number), each) for number, each in enumerate(given)]
        for place, table in found:
            self._check_keys(place, table)
        return found

    def _check_keys(self, place: Path, table: dict[str, Any]) -> None:
        known = _KEYS[str(place[0]) if place else ""]
        for key in table:
            if key not in known:
                raise self._error((*place, key), f"it is unknown; known are {', '.join(sorted(known))}")

    def _value(self, place: Path, convert: Callable[[Any], T], given: object) -> T:
        try:
            return convert(given)
        except PolicyError as wrong:
            inner = wrong.field if wrong.field != place[-1] else None
            raise self._error(place, wrong.problem, inner) from None
        except ValueError as wrong:
            raise self._error(place, str(wrong)) from None

    def _error(self, place: Path, problem: str, key: str | None = None) -> PolicyError:
        """An error about a value.

        Args:
            place: of the value.
            problem: a sentence about it.
            key: a part of the value, or a key that is missing.
        """
        found = self._lines()
        line = next((found[place[:end]] for end in range(len(place), 0, -1) if place[:end] in found), None)
        words: list[str] = []
        for each in place:
            if isinstance(each, str):
                words.append(each if each.isprintable() else f"{each!r:.100}")
            elif len(words) == 1:
                words[-1] += f" {each + 1}"
            else:
                words.append(f"item {each + 1}")
        return PolicyError(problem, field=": ".join([*words, *([key] if key else [])]), line=line, file=self._file)

    def _lines(self) -> dict[Path, int]:
        """Place of each value -> its line."""
        if self._found is None:
            self._found = lines(self._text)
        return self._found


def _word(given: object) -> str:
    if not isinstance(given, str):
        raise ValueError(f"{given!r:.100} is not text; put it into quotes")
    return given


def _choice(given: object, kind: type[E]) -> E:
    words = {each.value: each for each in kind}
    if not isinstance(given, str) or given not in words:
        raise ValueError(f"{given!r:.100} is not one of {', '.join(words)}")
    return words[given]


def _direction(given: object) -> bool:
    if given not in ("in", "out"):
        raise ValueError(f"{given!r:.100} is not one of in, out")
    return given == "in"


def _destination(given: object) -> Destinations:
    return parse_destinations([_word(given)])


def _ports(given: object) -> tuple[tuple[int, int], ...]:
    if isinstance(given, str):
        return parse_ports(given)
    if not isinstance(given, int) or isinstance(given, bool):
        raise ValueError(f"{given!r:.100} is not a port, nor a range such as '8000-8100'")
    return ((fields.port(given), given),)


def _protocol(given: object) -> str:
    if not isinstance(given, str) or given not in PROTOCOLS:
        raise ValueError(f"{given!r:.100} is not one of {', '.join(PROTOCOLS)}")
    return given


_PROXY: Final[dict[str, Callable[[Any], object]]] = {
    "name": _word,
    "kind": lambda given: _choice(given, ProxyKind),
    "server": lambda given: fields.endpoint(parse_endpoint(_word(given))),
}
"""Key of a proxy -> converter."""
