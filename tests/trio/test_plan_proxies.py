"""Proxies as users write them."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from sansnet_core import ConfigError, Endpoint
from sansnet_core.policy import ProxyConfig, ProxyKind
from sansnet_trio import parse_proxy


def test_urls() -> None:
    for scheme, kind in (("socks5", ProxyKind.SOCKS5), ("SOCKS5H", ProxyKind.SOCKS5), ("http", ProxyKind.HTTP)):
        for url in (f"{scheme}://192.0.2.1:1080", f"{scheme}://192.0.2.1:1080/"):
            expected = ProxyConfig(name="office", kind=kind, server=Endpoint("192.0.2.1", 1080))
            assert parse_proxy(url, name="office") == expected
    assert parse_proxy("http://[2001:db8::1]:3128").server == Endpoint("2001:db8::1", 3128)


def test_the_host_resolves_names(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(host: str, *_: Any, **__: Any) -> list[Any]:
        assert host == "proxy.example"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.9", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    assert parse_proxy("socks5://proxy.example:1080").server == Endpoint("192.0.2.9", 1080)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("192.0.2.1:1080", "give socks5://HOST:PORT or http://HOST:PORT"),
        ("socks4://192.0.2.1:1080", "give socks5://HOST:PORT or http://HOST:PORT"),
        ("https://192.0.2.1:1080", "give socks5://HOST:PORT or http://HOST:PORT"),
        ("socks5://192.0.2.1", "no port"),
        ("socks5://192.0.2.1:", "no port"),
        ("socks5://:1080", "no port"),
        ("socks5://192.0.2.1:0", "no port"),
        ("socks5://192.0.2.1:65536", "no port"),
        ("socks5://192.0.2.1:\u0661", "no port"),
        ("socks5://192.0.2.1:1080/path", "no port"),
        ("socks5://192.0.2.1/x:1080", "wrong host"),
        ("socks5://2001:db8::1:1080", "brackets"),
        ("socks5://[192.0.2.1]:1080", "brackets"),
        ("socks5://user:secret@192.0.2.1:1080", "into a file"),
        ("socks5://name.invalid:1080", "was not found"),
        ("socks5://0.0.0.0:1080", "no server"),
        ("socks5://224.0.0.1:1080", "no server"),
    ],
)
def test_wrong_urls(url: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as raised:
        parse_proxy(url)
    assert "secret" not in str(raised.value)


def test_credentials(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text("me:se:cret\nmore\n")
    file.chmod(0o600)
    proxy = parse_proxy("socks5://192.0.2.1:1080", credentials=str(file))
    assert (proxy.user, proxy.password) == ("me", "se:cret")
    for mode in (0o640, 0o604, 0o620, 0o666):
        file.chmod(mode)
        with pytest.raises(ConfigError, match=f"run chmod 600 {file}"):
            parse_proxy("socks5://192.0.2.1:1080", credentials=str(file))


@pytest.mark.parametrize("content", [b"", b"me\n", b":secret\n", b"\xff:x\n", b"me:" + b"x" * 300])
def test_wrong_credentials(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "credentials"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(ConfigError, match="credentials"):
        parse_proxy("http://192.0.2.1:1080", credentials=str(file))
    with pytest.raises(ConfigError, match="cannot be read"):
        parse_proxy("http://192.0.2.1:1080", credentials=str(tmp_path / "none"))
