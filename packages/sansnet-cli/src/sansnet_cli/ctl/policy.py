"""The answers about the policy, formatted for people, and the file that replaces it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

from sansnet_cli.ctl.table import columns, endpoint
from sansnet_cli.options.records import CommandLineError

if TYPE_CHECKING:
    from sansnet_cli.ctl.client import Answer

__all__ = ["PolicyText", "destination", "printable", "read_policy", "show_answered", "show_pending", "show_policy"]

_MAX_FILE: Final = 1 << 20
"""Bytes of a policy file: those of the longest request."""


class PolicyText(NamedTuple):
    """A policy as text.

    Attributes:
        text: contents of its file.
        credentials: name of each file with credentials, as the policy has it -> its text.
    """

    text: str
    credentials: dict[str, str]


def read_policy(path: str) -> PolicyText:
    """The text of a policy file, which is correct.

    Args:
        path: path of the file; `-` is stdin.

    Raises:
        CommandLineError: it cannot be read, or is too long.
        PolicyError: it is wrong.
    """
    from sansnet_core.policy import load_policy

    name = "standard input" if path == "-" else path
    try:
        if path == "-":
            data = sys.stdin.buffer.read(_MAX_FILE + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(_MAX_FILE + 1)
        text = data.decode()
    except OSError as error:
        raise CommandLineError(
            f"policy replace {path}: the file cannot be read ({error.strerror or error}); give another one"
        ) from None
    except UnicodeDecodeError:
        raise CommandLineError(f"policy replace {path}: the file is not text in UTF-8; give another one") from None
    if len(data) > _MAX_FILE:
        raise CommandLineError(f"policy replace {path}: the file has more than {_MAX_FILE} bytes; give a shorter one")
    credentials: dict[str, str] = {}

    def read(name: str) -> str:
        from sansnet_trio import read_private

        credentials[name] = read_private(os.path.join(os.path.dirname(path), name))
        return credentials[name]

    load_policy(text, file=name, read=read)
    return PolicyText(text, credentials)


def show_policy(answer: Answer) -> str:
    """The rules in their order, and the default action."""
    lines = [printable(rule) for rule in answer["rules"]]
    if more := answer["total"] - len(lines):
        lines.append(f"and {more} more; see --most")
    lines.append(f"default: {answer['default']}")
    if answer["names"]:
        lines.append(f"names: {answer['names']}")
    if answer["proxies"]:
        lines.append(f"proxies: {', '.join(map(printable, answer['proxies']))}")
    return "\n".join(lines)


def show_pending(answer: Answer) -> str:
    """A table of the flows that wait."""
    if not answer["flows"]:
        return "no flow waits for a decision"
    rows = [("ID", "PROTOCOL", "DESTINATION", "LEFT", "RULE WITH --always")]
    for flow in answer["flows"]:
        left = f"{flow['left']:.0f} s"
        rows.append((str(flow["id"]), flow["protocol"], destination(flow), left, printable(flow["rule"])))
    lines = columns(rows)
    if more := answer["total"] - len(answer["flows"]):
        lines.append(f"and {more} more; see --most")
    return "\n".join(lines)


def show_answered(answer: Answer) -> str:
    """The rule that the answer about a flow became, if it did."""
    return f"new rule: {printable(answer['rule'])}" if answer["rule"] else f"flow {answer['id']} is decided"


def destination(flow: Answer) -> str:
    """The destination of a flow that waits; for one from outside, both ends."""
    ping = flow["protocol"] == "ping"
    remote = flow["destination"]["address"] if ping else endpoint(flow["destination"])
    if flow["inbound"]:
        return f"{flow['guest']['address'] if ping else endpoint(flow['guest'])}, from {remote} outside"
    if flow["name"] is None:
        return str(remote)
    name = printable(flow["name"])
    return f"{name} ({remote})" if ping else f"{name}:{flow['destination']['port']} ({flow['destination']['address']})"


def printable(text: str) -> str:
    """A text without control characters: parts of it may be the guest's."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
