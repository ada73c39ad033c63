"""Cases for tests of a policy, as its file has them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from sansnet_core.errors import ConfigError
from sansnet_core.fields import Addresses, Part, address, instance, several
from sansnet_core.policy.names import canonical, pattern
from sansnet_core.policy.policy import Policy
from sansnet_core.policy.rule import PROTOCOLS, type_name, type_number
from sansnet_core.policy.text import parse_port, parse_prefix, split_port
from sansnet_core.records import Converted, Record, field

__all__ = ["EXPECTED", "Case", "Place", "PolicyFile", "canonical_question"]

EXPECTED: Final = ("allow", "refuse", "drop", "ask", "redirect")
"""Words for the result of a case. A redirected flow is allowed, too."""


def _protocol(value: str) -> str:
    if value not in PROTOCOLS:
        raise ValueError(f"{value!r:.100} is not one of {', '.join(PROTOCOLS)}")
    return value


def _expected(value: str) -> str:
    if value not in EXPECTED:
        raise ValueError(f"{value!r:.100} is not one of {', '.join(EXPECTED)}")
    return value


class Place(NamedTuple):
    """A destination of a flow.

    Attributes:
        name: the host name in canonical form, if it is one.
        address: 4 or 16 bytes, if it is an address.
        port: 0 for ping.
    """

    name: str | None
    address: bytes | None
    port: int

    @classmethod
    def parse(cls, text: str, protocol: str, *, inbound: bool = False) -> Place:
        """Parse the text of a destination, such as "example.org:443".

        Args:
            text: a host name or an address, with a port unless it is a ping. An IPv6 address before a port is in
                brackets.
            protocol: "tcp", "udp" or "ping".
            inbound: whether it is the source of a flow from outside, which has no name.

        Raises:
            ConfigError: it is wrong.
        """
        try:
            where, port = split_port(text)
            if bool(port) is (protocol == "ping"):
                raise ValueError(
                    f"{text!r:.100} has {'a' if port else 'no'} port; write 'HOST:PORT', or 'HOST' for ping"
                )
            number = parse_port(port) if port else 0
            prefix = parse_prefix(where)
            if prefix is not None:
                if prefix.length != 8 * len(prefix.address):
                    raise ValueError(f"{where!r:.100} is a network; give one of its addresses")
                return cls(None, prefix.address, number)
            if inbound:
                raise ValueError(f"{where!r:.100} is no address; give that of the outsider")
            name = pattern(where)
            if "*" in name:
                raise ValueError(f"{where!r:.100} is a pattern; give one host name")
            return cls(name, None, number)
        except ValueError as wrong:
            raise ConfigError(f"to: {wrong}") from None


def canonical_question(name: str) -> str:
    """The canonical form of a name that is asked for.

    Raises:
        ConfigError: it is no host name.
    """
    try:
        return canonical(name)
    except ValueError as wrong:
        raise ConfigError(f"question: {wrong}") from None


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
        if self.to is not None:
            place = Place.parse(self.to, self.protocol, inbound=bool(self.inbound))
            if self.addresses and place.name is None:
                raise ConfigError("addresses: only a host name has them; leave them out")
        else:
            canonical_question(self.question or "")

    def __str__(self) -> str:
        """The flow or the question, as in the file."""
        if self.question is not None:
            return f"question for {self.question}, type {type_name(self.type)}"
        return f"{self.protocol} {'from' if self.inbound else 'to'} {self.to}"


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
