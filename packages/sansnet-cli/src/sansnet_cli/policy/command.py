"""`sansnet policy`: check, explain, test and show policies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from sansnet_cli.options.policy import make_policy, read_policy
from sansnet_cli.options.records import CommandLineError
from sansnet_cli.output.stdout import put
from sansnet_cli.policy.parser import PolicyCommand, parse
from sansnet_core.errors import ConfigError
from sansnet_core.policy import Action, PolicyError

if TYPE_CHECKING:
    from sansnet_core.policy import Policy, PolicyFile

__all__ = ["policy"]

_PAST: Final = {Action.ALLOW: "allowed", Action.REFUSE: "refused", Action.DROP: "dropped", Action.ASK: "asked about"}


def policy(arguments: Sequence[str]) -> int:
    """Run `sansnet policy`.

    Args:
        arguments: the words after `policy`.

    Returns:
        The exit status: 0 if the answer is yes, and 1 if it is no.

    Raises:
        CommandLineError: an argument is wrong, or a file cannot be used.
    """
    options = parse(arguments)
    return {"check": _check, "explain": _explain, "test": _test, "show": _show}[options.command](options)


def _check(options: PolicyCommand) -> int:
    assert options.file is not None
    try:
        found = read_policy(options.file)
    except PolicyError as error:
        put(f"{error}\n")
        return 1
    put(f"{options.file}: {_described(found)}\n")
    return 0


def _described(found: PolicyFile) -> str:
    policy = found.policy
    counts = [(len(policy.rules), "rule"), (len(policy.proxies), "proxy"), (len(found.cases), "case")]
    parts = [f"{count} {_plural(word, count)}" for count, word in counts if count or word == "rule"]
    default = policy.default_action or Action.REFUSE
    return f"{', '.join(parts)}; what no rule matches is {_PAST[default]}"


def _plural(word: str, count: int) -> str:
    if count == 1:
        return word
    return "proxies" if word == "proxy" else f"{word}s"


def _explain(options: PolicyCommand) -> int:
    from sansnet_core.policy import Case, explain, explain_question

    assert options.target is not None
    policy: Policy | PolicyFile = _usable(options.file) if options.file and not options.has_rules else _made(options)
    try:
        if options.question is not None:
            found = explain_question(policy, options.target, options.question)
        else:
            flow: dict[str, Any] = {
                "protocol": options.protocol,
                "inbound": options.inbound,
                "addresses": options.addresses,
            }
            Case(expect="allow", to=options.target, **flow)  # checks the values
            found = explain(policy, options.target, **flow)
    except ConfigError as error:
        raise CommandLineError(f"explain {options.target}: {str(error).partition(': ')[2] or error}") from None
    put(f"{found}\n")
    return int(not found.judgement.allowed)


def _test(options: PolicyCommand) -> int:
    from sansnet_core.policy import run_cases

    assert options.file is not None
    found = _usable(options.file)
    if not found.cases:
        raise CommandLineError(f"{options.file} has no cases; write [[case]] with to and expect for each")
    results = run_cases(found)
    passed = sum(result.passed for result in results)
    lines = [f"{options.file}: {result}" for result in results]
    put("\n".join([*lines, f"{passed} of {len(results)} {_plural('case', len(results))} passed"]) + "\n")
    return int(passed < len(results))


def _usable(path: str) -> PolicyFile:
    """The policy in a file. Raises `CommandLineError` if it is wrong."""
    try:
        return read_policy(path)
    except PolicyError as error:
        raise CommandLineError(str(error)) from None


def _show(options: PolicyCommand) -> int:
    from sansnet_core.policy import dump_policy

    put(dump_policy(_made(options)))
    return 0


def _made(options: PolicyCommand) -> Policy:
    """The policy of the file and of the options."""
    made = make_policy(options.rules)
    assert made is not None
    return made
