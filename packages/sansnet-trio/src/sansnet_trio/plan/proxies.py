"""Proxies as users write them: URLs, and files with credentials."""

from __future__ import annotations

import os
import socket
import stat
from errno import EPERM
from typing import Final

from sansnet_core.addresses import Endpoint, parse
from sansnet_core.errors import ConfigError
from sansnet_core.policy import PolicyError, ProxyConfig, ProxyKind, parse_credentials

__all__ = ["parse_proxy", "read_private"]

_KINDS: Final = {"socks5": ProxyKind.SOCKS5, "socks5h": ProxyKind.SOCKS5, "http": ProxyKind.HTTP}
"""Scheme -> kind. With `socks5h`, curl passes names on to the proxy, as we do in any case."""
_MAX_FILE: Final = 4096


def parse_proxy(url: str, *, name: str = "proxy", credentials: str | None = None) -> ProxyConfig:
    """The proxy of a URL. A host name in it is resolved by the host, once.

    Args:
        url: `socks5://HOST:PORT` or `http://HOST:PORT`; an IPv6 address is in brackets.
        name: the proxy's name, see `Rule.via`.
        credentials: path of a file whose first line is `USER:PASSWORD`, and to which only its owner has access; None if
            the proxy needs none.

    Raises:
        ConfigError: the URL or the file is wrong, or the host was not found.
    """
    scheme, separator, rest = url.partition("://")
    kind = _KINDS.get(scheme.lower())
    where = rest.removesuffix("/")
    if not separator or kind is None:
        raise ConfigError(f"{url!r:.200} is not a proxy; give socks5://HOST:PORT or http://HOST:PORT")
    if "@" in where:
        raise ConfigError("the URL of a proxy shows its credentials to other users; put USER:PASSWORD into a file")
    host, colon, port = where.rpartition(":")
    digits = port.isascii() and port.isdigit() and len(port) < 6
    if not (host and colon and digits and 0 < int(port) < 1 << 16):
        raise ConfigError(f"{url!r:.200} has no port from 1 to 65535; give {scheme}://HOST:PORT")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if (":" in bare) is (bare == host) or set(bare) & set("/?#"):
        raise ConfigError(f"{url!r:.200} has a wrong host; give {scheme}://HOST:PORT, with brackets around IPv6 only")
    user, password = (None, None) if credentials is None else _credentials(credentials)
    return ProxyConfig(name=name, kind=kind, server=Endpoint(_resolve(bare), int(port)), user=user, password=password)


def read_private(path: str) -> str:
    """The text of a small file that only its owner may have access to, such as one with credentials.

    Raises:
        OSError: it cannot be read, or others have access to it.
        UnicodeError: it is not in UTF-8.
    """
    with open(path, encoding="utf-8") as file:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISREG(mode) and mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise PermissionError(EPERM, f"other users have access to it; run chmod 600 {path}", path)
        return file.read(_MAX_FILE)


def _credentials(path: str) -> tuple[str, str]:
    try:
        return parse_credentials(read_private(path))
    except PolicyError as error:
        raise ConfigError(f"{path}: {error.problem}") from None
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise ConfigError(f"{path} cannot be read ({why}); give a file with USER:PASSWORD") from None


def _resolve(host: str) -> bytes:
    """The first address that the host's resolver has for a name, or that an address in text form is."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not a name"
        raise ConfigError(f"the proxy's host {host!r:.200} was not found ({why}); give its address") from None
    return parse(str(found[0][4][0]).partition("%")[0])
