"""Names with a meaning of their own, for which no name server is asked (IANA, Special-Use Domain Names).

`.local` is not among them: RFC 6762, 22.1 reserves it, but many networks have it on their name servers.
"""

from __future__ import annotations

from typing import Final

from sansnet_core.wire import dns_message as dns

__all__ = ["special"]

_LOOPBACK: Final = {dns.A: b"\x7f\0\0\1", dns.AAAA: bytes(15) + b"\1"}
_RCODES: Final = {
    "localhost": dns.NOERROR,  # RFC 6761, 6.3
    "invalid": dns.NXDOMAIN,  # RFC 6761, 6.4
    "onion": dns.NXDOMAIN,  # RFC 7686, 2
    "resolver.arpa": dns.NOERROR,  # RFC 9462, 4: it would lead the guest to another resolver
    "use-application-dns.net": dns.NXDOMAIN,  # Firefox does not resolve names by itself then
}


def special(name: str, type_: int) -> tuple[int, bytes | None] | None:
    """The response code and the address for such a name, or for one below it; None for all other names.

    Args:
        name: in canonical form.
        type_: of the records that are asked for.
    """
    found = ".".join(name.split(".")[-2:])
    if found not in _RCODES:
        found = found.rpartition(".")[2]
    if found not in _RCODES:
        return None
    return _RCODES[found], _LOOPBACK.get(type_) if found == "localhost" else None
