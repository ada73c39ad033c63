"""A whole policy: rules, the default action, and how names and proxies are used."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from sansnet_core import fields
from sansnet_core.addresses import Endpoint, is_unicast
from sansnet_core.errors import ConfigError
from sansnet_core.fields import AnyEndpoint, Part, instance, optional, several
from sansnet_core.policy.rule import Action, Rule
from sansnet_core.records import Converted, Record, field

__all__ = ["NameMode", "Policy", "PolicyError", "ProxyConfig", "ProxyKind", "check_proxies"]


class PolicyError(ConfigError):
    """A policy is wrong. The message begins with the place, as far as it is known.

    Args:
        problem: a sentence about the value, and the remedy.
        field: the field, such as "rule 2: port".
        line: number of the line, from 1.
        file: name of the file.

    All are attributes, too.
    """

    def __init__(
        self, problem: str, *, field: str | None = None, line: int | None = None, file: str | None = None
    ) -> None:
        place = ":".join(str(each) for each in (file, line) if each is not None)
        if file is None and line is not None:
            place = f"line {line}"
        super().__init__(": ".join(part for part in (place, field, problem) if part))
        self.problem = problem
        self.field = field
        self.line = line
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (type(self), self.problem, self.field, self.line, self.file)


def _restore(
    cls: type[PolicyError], problem: str, field: str | None, line: int | None, file: str | None
) -> PolicyError:
    return cls(problem, field=field, line=line, file=file)


class NameMode(Enum):
    """How the guest sees the addresses of names."""

    OWN = "own"
    """Each name has an address of its own, which exists on the guest's segment only (RFC 3089)."""
    REAL = "real"
    """The addresses of the name; they stand for it as long as the answer is valid."""


class ProxyKind(Enum):
    """The protocol of a proxy."""

    SOCKS5 = "socks5"
    """RFC 1928, with UDP ASSOCIATE."""
    HTTP = "http"
    """CONNECT (RFC 9110, 9.3.6)."""


class ProxyConfig(Record):
    """A proxy that rules send flows through.

    Attributes:
        name: as in `Rule.via`.
        kind: its protocol.
        server: its endpoint.
        user, password: credentials, up to 255 bytes each in UTF-8; None if it needs none.

    Raises:
        ConfigError: a field is wrong.
    """

    name: str
    kind: Part[ProxyKind] = field(instance(ProxyKind))
    server: Converted[AnyEndpoint, Endpoint] = field(fields.endpoint)
    user: str | None = None
    password: str | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("name: it is empty; give a word that rules can name the proxy by")
        if not self.server.port or not is_unicast(self.server.address):
            raise ConfigError(f"server: {self.server} is no server; give the address and the port of the proxy")
        if self.password is not None and self.user is None:
            raise ConfigError("password: it has no effect without a user; give both")
        for name, text in (("user", self.user), ("password", self.password)):
            if text is not None and (len(text.encode()) > 255 or not text.isprintable()):
                raise ConfigError(f"{name}: it has more than 255 bytes, or control characters; no proxy takes it")
        if self.user is not None and (not self.user or (self.kind is ProxyKind.HTTP and ":" in self.user)):
            raise ConfigError("user: it is empty or has a colon, which Basic credentials cannot have (RFC 7617, 2)")


class Policy(Record, error=PolicyError):
    """Rules about what a guest may reach.

    Attributes:
        rules: the first that matches decides.
        default_action: decides if no rule matches; None leaves it to the network's configuration.
        names: how the guest sees the addresses of names; None leaves it to the network's configuration.
        proxies: the proxies of rules with `via`.

    Raises:
        PolicyError: a field is wrong, two proxies have one name, or a rule names a proxy that does not exist.
    """

    rules: Converted[Iterable[Rule], tuple[Rule, ...]] = field(several(instance(Rule)), default=())
    default_action: Part[Action | None] = field(optional(instance(Action)), default=None)
    names: Part[NameMode | None] = field(optional(instance(NameMode)), default=None)
    proxies: Converted[Iterable[ProxyConfig], tuple[ProxyConfig, ...]] = field(
        several(instance(ProxyConfig)), default=()
    )

    def __post_init__(self) -> None:
        check_proxies(self.rules, self.proxies)

    @property
    def needs_resolver(self) -> bool:
        """Whether the guest must ask our own resolver for names: a rule has names, or a proxy gets them."""
        return any(rule.names or rule.via for rule in self.rules)


def check_proxies(rules: Iterable[Rule], proxies: Iterable[ProxyConfig]) -> None:
    """Check that each proxy has a name of its own, and that those of rules exist.

    Raises:
        PolicyError: this is not so.
    """
    known = [proxy.name for proxy in proxies]
    for name in known:
        if known.count(name) > 1:
            raise PolicyError(f"two proxies have the name {name!r}; rename one", field="proxies")
    for rule in rules:
        if rule.via is not None and rule.via not in known:
            given = ", ".join(known) or "none"
            raise PolicyError(f"{rule.via!r} is not the name of a proxy; there are: {given}", field="via")
