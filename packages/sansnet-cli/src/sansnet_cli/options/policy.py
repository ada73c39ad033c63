"""The options about what the guest may reach, and the policy that they make.

The modules of policies are loaded only if one of these options is given.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from sansnet_cli.options.records import CommandLineError
from sansnet_core import addresses
from sansnet_core.config import Limits
from sansnet_core.errors import ConfigError
from sansnet_core.policy import Action, Group, NameMode
from sansnet_core.records import replace

if TYPE_CHECKING:
    import argparse

    from sansnet_core.policy import Policy, PolicyFile, ProxyConfig, Rule

__all__ = [
    "PRESETS",
    "add_policy_options",
    "add_rule_options",
    "asks",
    "make_policy",
    "options_of_files",
    "policy_options",
    "read_policy",
    "with_forwards",
]

PRESETS: Final = ("none", "dns", "web", "public", "open")

_MAX_FILE: Final = 4 << 20
"""Characters that are read of a policy."""
_MIN_AUDIT: Final = 4096
"""Bytes of the smallest `--audit-size`."""

_PROXY: Final = "--proxy"
"""The name of the proxy of that option in the policy."""


def add_policy_options(made: argparse.ArgumentParser) -> None:
    """Add all of these options to a command with a guest."""
    group = made.add_argument_group("what the guest may reach; the first rule that matches decides")
    group.add_argument("--policy", metavar="FILE", help="read rules from FILE; see `sansnet policy --help`")
    add_rule_options(group)
    group.add_argument(
        "--nat64",
        action="append",
        dest="translators",
        type=_translator,
        default=[],
        metavar="PREFIX",
        help="the prefix of a NAT64 translator of the host's network, beside 64:ff9b::/96: rules about an IPv4 address "
        "hold for it behind this prefix, too",
    )
    group.add_argument(
        "--ask-time",
        type=float,
        metavar="SECONDS",
        help="refuse what is held after SECONDS without an answer, 1 to 3600; default: 30",
    )
    group.add_argument(
        "--audit", metavar="FILE", help="write a line of JSON to FILE for each decision and each name that is asked for"
    )
    group.add_argument(
        "--audit-size",
        type=int,
        metavar="BYTES",
        help="end the file of --audit when it would be larger than BYTES; default: 1073741824",
    )
    group.add_argument(
        "--learn", metavar="FILE", help="write a policy to FILE that allows all that the guest used in this run"
    )


def add_rule_options(group: argparse._ArgumentGroup) -> None:
    """Add the options that make rules."""
    for action, text in (
        (Action.ALLOW, "allow DEST: NAME, `*.NAME`, an address, a network or a group such as `private`, with :PORT "
         "or without; repeatable; all that no rule allows is refused then"),
        (Action.REFUSE, "refuse DEST; these rules and those of --allow hold in their order, before others"),
    ):  # fmt: skip
        group.add_argument(
            f"--{action.value}",
            action="append",
            dest="rules",
            type=_tagged(action),
            default=[],
            metavar="DEST",
            help=text,
        )
    group.add_argument(
        "--preset",
        choices=PRESETS,
        metavar="NAME",
        help="rules for a common case: `none`; `dns`: only look-ups of names; `web`: also ports 80 and 443 of public "
        "addresses; `public`: all ports of public addresses; `open`",
    )
    group.add_argument(
        "--names",
        choices=("own", "real"),
        metavar="KIND",
        help="the addresses that the guest sees for names: `own`, the default: one for each name, on its segment only; "
        "`real`: those of the name, which other names may share",
    )
    group.add_argument(
        "--ask", action="store_true", help="hold what no rule decides until you answer it by `sansnet ctl PATH ask`"
    )
    group.add_argument(
        "--proxy",
        metavar="URL",
        help="send what is allowed through a proxy: socks5://HOST:PORT, or http://HOST:PORT by CONNECT",
    )
    group.add_argument(
        "--proxy-credentials", metavar="FILE", help="a file with USER:PASSWORD for the proxy, on one line"
    )


def _translator(text: str) -> addresses.Prefix:
    """The prefix of a NAT64 translator."""
    import argparse

    from sansnet_core.policy.embedded import checked_translators

    try:
        return checked_translators([addresses.Prefix(text)])[0]
    except ValueError as wrong:
        raise argparse.ArgumentTypeError(str(wrong)) from None


def _tagged(action: Action) -> Callable[[str], tuple[Action, str]]:
    """A converter that keeps which option a text belongs to."""
    return lambda text: (action, text)


def policy_options(parsed: argparse.Namespace, dns: Sequence[bytes] | None) -> dict[str, Any]:
    """The fields of records for these options; none for options that were not given.

    Args:
        parsed: the parsed command line.
        dns: the name servers of `-D`; None if it was not given.

    Raises:
        CommandLineError: options contradict each other, a rule or the file is wrong, or the file cannot be read.
    """
    files = {name: getattr(parsed, name) for name in ("policy", "audit", "learn")}
    _check_files(files)
    found = {name: files[name] for name in ("audit", "learn") if files[name] is not None}
    watches = bool(found)
    if parsed.audit_size is not None:
        if parsed.audit is None:
            raise CommandLineError("--audit-size needs --audit FILE; give both, or leave it out")
        if parsed.audit_size < _MIN_AUDIT:
            raise CommandLineError(f"--audit-size {parsed.audit_size} is too small; give {_MIN_AUDIT} bytes or more")
        found["audit_size"] = parsed.audit_size
    policy = make_policy(parsed)
    if policy is not None:
        found["policy"] = with_forwards(policy)
    if parsed.names is not None:
        if not (policy or watches):
            raise CommandLineError("--names needs a policy; give one by --policy, --allow or --preset, or leave it out")
        found["names"] = NameMode(parsed.names)
    if parsed.translators:
        if policy is None:
            raise CommandLineError("--nat64 needs a policy; give one by --policy, --allow or --preset, or leave it out")
        found["translators"] = tuple(parsed.translators)
    if watches or parsed.ask or parsed.proxy is not None:
        found["resolver"] = True  # they are about names, even if no rule is
    if parsed.ask_time is not None:
        if policy is None or not asks(policy):
            raise CommandLineError("--ask-time needs --ask, or a policy that asks; add one of them, or leave it out")
        if not 1 <= parsed.ask_time <= 3600:
            raise CommandLineError(
                f"--ask-time {parsed.ask_time:g} is not between 1 and 3600 seconds; give another one"
            )
        found["limits"] = Limits(decision_time=parsed.ask_time)
    if "resolver" in found or (policy is not None and policy.needs_resolver):
        _check_name_servers(dns)
    return found


def asks(policy: Policy) -> bool:
    """Whether a policy leaves flows to the user."""
    return Action.ASK in (policy.default_action, *(rule.action for rule in policy.rules))


def _check_name_servers(dns: Sequence[bytes] | None) -> None:
    """Check that a guest with `-D` asks our resolver."""
    if dns == ():
        raise CommandLineError("-D none leaves the guest without names, which this policy is about; leave out -D none")
    loopback = next(filter(addresses.is_loopback, dns or ()), None)
    if loopback is not None:
        text = addresses.format(loopback)
        raise CommandLineError(f"-D {text} leads past the resolver that this policy needs; leave out -D {text}")


def with_forwards(policy: Policy) -> Policy:
    """A policy whose default action is about the guest's flows alone.

    Its last rule lets outsiders in, because they come by ports that the user has forwarded. A rule of the policy can
    refuse them.
    """
    from sansnet_core.policy import Rule

    rule = Rule(action=Action.ALLOW, inbound=True, label="forwarded ports")
    if policy.default_action in (None, Action.ALLOW) or rule in policy.rules[-1:]:
        return policy
    return replace(policy, rules=(*policy.rules, rule))


def options_of_files(policy: str | None, audit: str | None) -> dict[str, Any]:
    """The fields of records for a file with a policy and one for the audit, either of which may be None.

    Raises:
        CommandLineError: the policy is wrong, or cannot be read.
    """
    _check_files({"policy": policy, "audit": audit})
    found: dict[str, Any] = {}
    if policy is not None:
        found["policy"] = with_forwards(_of_file(policy))
    if audit is not None:
        found |= {"audit": audit, "resolver": True}
    return found


def _check_files(files: Mapping[str, str | None]) -> None:
    """Check the files of options by their names."""
    named = [(f"--{name}", path) for name, path in files.items() if path is not None]
    for number, (option, path) in enumerate(named):
        if not path:
            raise CommandLineError(f"{option} names no file; give a path")
        if path == "-":
            stream = "would read stdin" if option == "--policy" else "cannot write to stdout"
            raise CommandLineError(f"{option} - {stream}, which is the command's; give a file or a FIFO")
        for other, same in named[:number]:
            if os.path.realpath(path) == os.path.realpath(same):
                raise CommandLineError(f"{option} would overwrite the file of {other}, {path}; give another one")


def make_policy(parsed: argparse.Namespace) -> Policy | None:
    """The policy of the options of `add_rule_options` and `--policy`; None if none of them was given.

    Raises:
        CommandLineError: options contradict each other, a rule or the file is wrong, or the file cannot be read.
    """
    if parsed.proxy_credentials is not None and parsed.proxy is None:
        raise CommandLineError("--proxy-credentials needs --proxy URL; give both, or leave it out")
    if not (parsed.policy or parsed.rules or parsed.preset or parsed.ask or parsed.proxy):
        return None
    from sansnet_core.policy import Policy, preset

    if parsed.policy is not None and parsed.preset is not None:
        raise CommandLineError(
            f'--policy and --preset exclude each other; write preset = "{parsed.preset}" into {parsed.policy}'
        )
    if parsed.policy is not None:
        policy = _of_file(parsed.policy)
    elif parsed.preset is not None:
        policy = preset(parsed.preset)
    else:
        closes = any(action is Action.ALLOW for action, _ in parsed.rules)
        policy = Policy(default_action=Action.REFUSE if closes else Action.ALLOW)
    changes: dict[str, Any] = {}
    if parsed.ask:
        changes["default_action"] = Action.ASK
    if parsed.names is not None:
        changes["names"] = NameMode(parsed.names)
    rules = [rule for action, text in parsed.rules for rule in _rules(action, text)]
    policy = replace(policy, rules=(*rules, *policy.rules), **changes)
    return policy if parsed.proxy is None else _through(policy, _proxy(parsed.proxy, parsed.proxy_credentials))


def _of_file(path: str) -> Policy:
    """The policy of `--policy`. Raises `CommandLineError` if it is wrong, or cannot be read."""
    from sansnet_core.policy import PolicyError

    try:
        return read_policy(path).policy
    except PolicyError as error:
        raise CommandLineError(f"{error}; `sansnet policy check {path}` checks it") from None


def read_policy(path: str) -> PolicyFile:
    """The policy in a file, with its cases. Files with credentials are sought beside it.

    Args:
        path: path of the file; `-` is stdin.

    Raises:
        CommandLineError: the file cannot be read.
        PolicyError: it is wrong; the message begins with file and line.
    """
    from sansnet_core.policy import load_policy

    def beside(name: str) -> str:
        from sansnet_trio import read_private

        return read_private(os.path.join(os.path.dirname(path), name))

    try:
        text = sys.stdin.read(_MAX_FILE) if path == "-" else _text(path)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise CommandLineError(f"the policy {path} cannot be read ({why}); give another file") from None
    return load_policy(text, file="stdin" if path == "-" else path, read=beside)


def _text(path: str) -> str:
    """The text of a small file."""
    with open(path, encoding="utf-8") as file:
        return file.read(_MAX_FILE)


def _rules(action: Action, text: str) -> Iterable[Rule]:
    """The rules of `--allow` or `--refuse`; they are about the guest's flows unless the text says `in`."""
    from sansnet_core.policy import PolicyError, parse_destination

    if not text.strip():
        raise CommandLineError(f"--{action.value} names no destination; give one, or `any` for all")
    if place := _place(text):
        raise CommandLineError(f"--{action.value} {text!r} is a URL; give {place}")
    try:
        rules = parse_destination(text, action)
    except PolicyError as error:
        raise CommandLineError(f"--{action.value} {text!r}: {error.problem}") from None
    return [replace(rule, inbound=False) if rule.inbound is None else rule for rule in rules]


def _place(text: str) -> str:
    """The host and port of a URL; empty if the text is none."""
    scheme, separator, rest = text.partition("://")
    if not separator or not scheme.isalnum():
        return ""
    where = rest.partition("/")[0].rpartition("@")[2]
    port = {"http": ":80", "https": ":443", "ssh": ":22", "ftp": ":21"}.get(scheme.lower(), "")
    return where if ":" in where else f"{where or 'NAME'}{port or ':PORT'}"


def _proxy(url: str, credentials: str | None) -> ProxyConfig:
    """The proxy of `--proxy` and `--proxy-credentials`."""
    from sansnet_trio import parse_proxy

    try:
        return parse_proxy(url, name=_PROXY, credentials=credentials)
    except ConfigError as error:
        raise CommandLineError(f"--proxy: {error}") from None


def _through(policy: Policy, proxy: ProxyConfig) -> Policy:
    """A policy that sends all that another one allows through a proxy, unless its rule names another way."""

    def via(rule: Rule) -> Rule:
        opens = rule.action in (Action.ALLOW, Action.ASK) and not rule.inbound
        stays = not opens or rule.via or rule.to or Group.RESOLVER in rule.groups
        return rule if stays else replace(rule, via=proxy.name)

    rules = [via(rule) for rule in policy.rules]
    if policy.default_action in (Action.ALLOW, Action.ASK):
        from sansnet_core.policy import Rule

        rules.append(Rule(action=policy.default_action, inbound=False, via=proxy.name))
    return replace(policy, rules=tuple(rules), proxies=(*policy.proxies, proxy))
