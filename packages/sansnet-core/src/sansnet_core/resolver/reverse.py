"""The names by which the names of addresses are asked for (RFC 1035, 3.5; RFC 3596, 2.5)."""

from __future__ import annotations

from typing import Final

from sansnet_core.wire.dns_names import labels

__all__ = ["address"]

_IPV4: Final = [b"in-addr", b"arpa"]
_IPV6: Final = [b"ip6", b"arpa"]


def address(name: bytes) -> bytes | None:
    """The address that a name such as 1.2.0.192.in-addr.arpa stands for.

    Args:
        name: as on the wire, uncompressed.

    Returns:
        4 or 16 bytes; None if it stands for none.
    """
    parts = labels(name.lower())
    head, tail = parts[:-2], parts[-2:]
    head.reverse()
    if tail == _IPV4 and len(head) == 4:
        if all(part.isdigit() and len(part) < 4 and int(part) < 256 for part in head):
            return bytes(int(part) for part in head)
    elif tail == _IPV6 and len(head) == 32 and all(len(part) == 1 and part in b"0123456789abcdef" for part in head):
        return bytes.fromhex(b"".join(head).decode("ascii"))
    return None
