"""Reads the host names in the first bytes of the guest's connections: the server name of TLS, the Host field of HTTP/1.

The bytes are not changed, and nothing is decrypted. The parsers are incremental and bounded.
"""

from __future__ import annotations

from collections.abc import Callable

from sansnet_core.inspect.inspector import LIMIT, Forbidden, Inspector
from sansnet_core.policy.rule import Check

__all__ = ["LIMIT", "Forbidden", "Inspector", "make"]


def make(check: Check, is_allowed: Callable[[str], bool], *, strict: bool) -> Inspector:
    """An inspector of one connection.

    Args:
        check: TLS or HTTP.
        is_allowed: see `Inspector`.
        strict: see `Inspector`.

    Raises:
        ValueError: the check is `Check.NONE`.
    """
    if check is Check.TLS:
        from sansnet_core.inspect.tls import TlsInspector

        return TlsInspector(is_allowed, strict=strict)
    if check is Check.HTTP:
        from sansnet_core.inspect.http import HttpInspector

        return HttpInspector(is_allowed, strict=strict)
    raise ValueError(f"{check} reads nothing")
