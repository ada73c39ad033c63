"""Cases for tests of a policy, as its file has them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sansnet_core.errors import ConfigError
from sansnet_core.fields import Addresses, Part, address, instance, several
from sansnet_core.policy.policy import Policy
from sansnet_core.policy.rule import PROTOCOLS, type_number
from sansnet_core.records import Converted, Record, field

__all__ = ["Case", "PolicyFile"]

EXPECTED: Final = ("allow", "refuse", "drop", "ask", "redirect")


def _protocol(value: str) -> str:
    if value not in PROTOCOLS:
        raise ValueError(f"{value!r:.100} is not one of {', '.join(PROTOCOLS)}")
    return value


def _expected(value: str) -> str:
    if value not in EXPECTED:
        raise ValueError(f"{value!r:.100} is not one of {', '.join(EXPECTED)}")
    return value


class Case(Record):
    """A flow or a question, and the action that the policy must have for it.

    Attributes:
        expect: "allow", "refuse", "drop", "ask", or "redirect".
        to: the flow's destination: a host name or an address, with a port unless it is a ping.
        protocol: of the flow: "tcp", "udp" or "ping".
        inbound: whether an outsider opens the flow; then `to` is the outsider's address and the guest's port.
        addresses: those of the host name in `to`; without them, the case is about any public address.
        question: a host name that is asked for, in place of a flow.
        type: of the records that are asked for.
        label: a name for people.
        line: in the file, from 1; 0 if it is not from a file.

    Raises:
        ConfigError: a field is wrong, or there is not exactly one of `to` and `question`.
    """

    expect: Converted[str, str] = field(_expected)
    to: str | None = None
    protocol: Converted[str, str] = field(_protocol, default="tcp")
    inbound: bool | None = None
    addresses: Addresses = field(several(address), default=())
    question: str | None = None
    type: Converted[int | str, int] = field(type_number, default="A")
    label: str | None = None
    line: int = 0

    def __post_init__(self) -> None:
        if (self.to is None) is (self.question is None):
            raise ConfigError("to: give it for a flow, or question for a question, and not both")


class PolicyFile(Record):
    """The contents of a policy file.

    Attributes:
        policy: its policy, with the rules of its preset behind those of the file.
        cases: its cases.
        lines: the line of each rule, from 1; 0 for those of the preset.
    """

    policy: Part[Policy] = field(instance(Policy))
    cases: Converted[Iterable[Case], tuple[Case, ...]] = field(several(instance(Case)), default=())
    lines: tuple[int, ...] = ()
