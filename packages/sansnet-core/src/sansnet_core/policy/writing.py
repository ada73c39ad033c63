"""Writes policies as TOML files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from errno import EACCES, errorcode

from sansnet_core.policy.cases import PolicyFile
from sansnet_core.policy.policy import Policy
from sansnet_core.policy.rule import Action, Rule, name_text, place_text, type_name

__all__ = ["dump_policy"]


def dump_policy(
    policy: Policy | PolicyFile, comments: Mapping[int, str | Iterable[str]] | None = None, *, head: str = ""
) -> str:
    """Write a policy as the text of a TOML file, which `load_policy` reads.

    The default action is written as `refuse` if the policy has none. Credentials of proxies are not written.

    Args:
        policy: the policy.
        comments: index of a rule -> text, or lines, to write above it; control characters become question marks.
        head: text to write at the top, as a comment.
    """
    if isinstance(policy, PolicyFile):
        policy = policy.policy
    given = comments or {}
    lines = [*_comment(head), f"default = {_string((policy.default_action or Action.REFUSE).value)}"]
    if policy.names is not None:
        lines.append(f"names = {_string(policy.names.value)}")
    for number, rule in enumerate(policy.rules):
        lines += ["", *_comment(given.get(number, "")), "[[rule]]", *_rule(rule)]
    for proxy in policy.proxies:
        lines += ["", "[[proxy]]", f"name = {_string(proxy.name)}", f"kind = {_string(proxy.kind.value)}"]
        lines.append(f"server = {_string(str(proxy.server))}")
        if proxy.user is not None:
            lines.append('# credentials = "FILE"')
    return "\n".join(lines) + "\n"


def _rule(rule: Rule) -> Iterator[str]:
    if rule.label is not None:
        yield f"label = {_string(rule.label)}"
    yield f"action = {_string('redirect' if rule.to is not None else rule.action.value)}"
    if rule.inbound is not None:
        yield f"direction = {_string('in' if rule.inbound else 'out')}"
    if rule.protocols:
        yield f"protocol = {_strings(rule.protocols)}"
    names = [*map(name_text, rule.names)]
    places = [*map(place_text, rule.destinations), *(group.value for group in rule.groups)]
    if names or places:
        yield f"to = {_strings(names or places)}"
    if names and places:
        yield f"at = {_strings(places)}"
    if rule.ports:
        ports = [str(first) if first == last else _string(f"{first}-{last}") for first, last in rule.ports]
        yield f"port = {ports[0] if len(ports) == 1 else '[' + ', '.join(ports) + ']'}"
    if rule.to is not None:
        yield f"redirect = {_string(rule.target_text)}"
    if rule.errno != EACCES:
        yield f"errno = {_string(errorcode.get(rule.errno, str(rule.errno)))}"
    if rule.check is not None:
        yield f"check = {_string(rule.check.value)}"
    if rule.via is not None:
        yield f"via = {_string(rule.via)}"
    if rule.record_types:
        yield f"records = {_strings(map(type_name, rule.record_types))}"


def _strings(texts: Iterable[str]) -> str:
    """One string, or a list of them; a long list has a line for each."""
    found = [_string(text) for text in texts]
    if len(found) == 1:
        return found[0]
    line = f"[{', '.join(found)}]"
    return line if len(line) < 100 else "[\n" + "".join(f"    {each},\n" for each in found) + "]"


def _string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(each if each.isprintable() else f"\\U{ord(each):08x}" for each in escaped) + '"'


def _comment(text: str | Iterable[str]) -> list[str]:
    lines = text.splitlines() if isinstance(text, str) else [part for each in text for part in each.splitlines()]
    return [f"# {''.join(each if each.isprintable() else '?' for each in line)}".rstrip() for line in lines]
