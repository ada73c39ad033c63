"""The dialogues by which a proxy is asked to connect to a destination: SOCKS5 and HTTP CONNECT.

A host name is passed on to the proxy, which resolves it.
"""

from __future__ import annotations

from sansnet_core.policy import ProxyConfig, ProxyKind
from sansnet_core.proxy.handshake import Destination, Handshake

__all__ = ["Destination", "Handshake", "connect"]


def connect(proxy: ProxyConfig, host: str | bytes, port: int) -> Handshake:
    """The dialogue for one TCP connection through a proxy to a destination; see `Destination`."""
    destination = Destination(host, port)
    if proxy.kind is ProxyKind.SOCKS5:
        from sansnet_core.proxy.socks5 import Socks5, connect_request

        return Socks5(connect_request(destination), proxy.user, proxy.password)
    from sansnet_core.proxy.http_connect import HttpConnect

    return HttpConnect(destination, proxy.user, proxy.password)
