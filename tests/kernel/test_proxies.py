"""Flows through proxies, from inside a real guest: where packets of the host go is seen on the wire upstream."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.lab import SERVER4, SERVER6, Guest, eventually, served
from tests.lab.internet import ADDRESSES, Internet, internet
from tests.lab.proxies import HttpProxy, SocksProxy
from tests.lab.servers import Echo

PROBE: Final = str(Path(__file__).parents[1] / "lab" / "probe.py")
ALLOWED4, ALLOWED6 = ADDRESSES["allowed"]
OTHER4, OTHER6 = ADDRESSES["other"]
ECHO: Final = 7007
SMTP: Final = 2525
CLOSED: Final = 4444
NAMES: Final = {"allowed.example": ALLOWED4, "six.example": ALLOWED6, "other.example": OTHER4}
"""The names that the proxies know. The name server of the host knows none."""


@pytest.fixture(scope="module")
def world() -> Iterator[Internet]:
    with internet({}, "allowed.example", "other.example") as made, ExitStack() as stack:
        for address in (ALLOWED4, ALLOWED6, OTHER4):
            stack.enter_context(Echo.datagrams(made.lab.upstream.datagram(address, ECHO)))
        greeting = made.lab.upstream.listen("::", SMTP)
        stack.enter_context(served(greeting, lambda stream: stream.sendall(b"220 hello\n")))
        yield made


@pytest.fixture(autouse=True)
def seen(world: Internet) -> None:
    world.forget()


@pytest.fixture(params=["socks5", "http"])
def proxy(request: pytest.FixtureRequest, world: Internet) -> SocksProxy | HttpProxy:
    return (SocksProxy if request.param == "socks5" else HttpProxy)(world.lab.upstream, NAMES)


def url(proxy: SocksProxy | HttpProxy, port: int, host: str = SERVER4) -> str:
    return f"{'http' if isinstance(proxy, HttpProxy) else 'socks5'}://{host}:{port}"


def probe(guest: Guest, *words: str) -> str:
    """Run the probe in a guest; its line."""
    return guest.run(sys.executable, PROBE, *words, timeout=40).stdout.strip()


def others(world: Internet, *proxies: str) -> set[str]:
    """Where packets of the host went, apart from some addresses and link-local ones."""
    here = {
        *proxies,
        *(address for address, _, _ in world.packets if address.startswith(("ff02", "fe80", "198.51.100"))),
    }
    return {address for address, _, _ in world.packets} - here - {"2001:db8:1::1"}


def test_connections_go_to_the_proxy_alone(world: Internet, proxy: SocksProxy | HttpProxy) -> None:
    with proxy.on(SERVER4) as port, world.lab.guest("--proxy", url(proxy, port), warning="reached") as guest:
        assert probe(guest, "tcp", "allowed.example", "7", "hello") == f"this is {ALLOWED4} port 7"
        assert probe(guest, "tcp", "six.example", "7", "hello") == f"this is {ALLOWED6} port 7"
        assert probe(guest, "tcp", OTHER4, "7", "hello") == f"this is {OTHER4} port 7"
        assert probe(guest, "tcp", OTHER6, "7", "hello") == f"this is {OTHER6} port 7"
        assert probe(guest, "tls", "allowed.example", "443", "allowed.example") == f"this is {ALLOWED4} port 443"
        assert probe(guest, "tcp", "allowed.example", str(SMTP), "x") == "220 hello"
    assert proxy.asked == [
        ("allowed.example", 7),
        ("six.example", 7),
        (OTHER4, 7),
        (OTHER6, 7),
        ("allowed.example", 443),
        ("allowed.example", SMTP),
    ]
    assert world.dns.questions == []
    assert others(world, SERVER4) == set()


def test_a_proxy_at_an_ipv6_address(world: Internet, proxy: SocksProxy | HttpProxy) -> None:
    with (
        proxy.on(SERVER6) as port,
        world.lab.guest("--proxy", url(proxy, port, f"[{SERVER6}]"), warning="reached") as guest,
    ):
        assert probe(guest, "tcp", "allowed.example", "7", "hello") == f"this is {ALLOWED4} port 7"
    assert others(world, SERVER6) == set()


def test_much_data_passes_whole(world: Internet, proxy: SocksProxy | HttpProxy) -> None:
    with (
        served(world.lab.upstream.listen(ALLOWED4), Echo.stream) as echo,
        proxy.on(SERVER4) as port,
        world.lab.guest("--proxy", url(proxy, port), warning="reached") as guest,
    ):
        script = (
            "import hashlib,socket,sys,threading\n"
            f"s=socket.create_connection(('allowed.example',{echo}))\n"
            "data=hashlib.shake_256(b'x').digest(3000000)\n"
            "threading.Thread(target=lambda: (s.sendall(data), s.shutdown(1))).start()\n"
            "got=b''\n"
            "while more:=s.recv(65536): got+=more\n"
            "print(got==data)"
        )
        assert guest.run(sys.executable, "-c", script).stdout.strip() == "True"


def test_datagrams_go_to_the_relay_alone(world: Internet) -> None:
    proxy = SocksProxy(world.lab.upstream, NAMES)
    with proxy.on(SERVER4) as port, world.lab.guest("--proxy", url(proxy, port), warning="reached") as guest:
        assert probe(guest, "udp", "allowed.example", str(ECHO), "one") == "one"
        assert probe(guest, "udp", "six.example", str(ECHO), "two") == "two"
        assert probe(guest, "udp", OTHER4, str(ECHO), "three") == "three"
        assert probe(guest, "udp", ALLOWED6, str(ECHO), "four") == "four"
        assert probe(guest, "udp", OTHER4, str(ECHO), "x" * 3000) == "x" * 3000
    assert {host for host, _ in proxy.asked} == {"allowed.example", "six.example", OTHER4, ALLOWED6}
    assert world.dns.questions == []
    assert others(world, SERVER4) == set()


def test_http_carries_no_datagrams(world: Internet) -> None:
    proxy = HttpProxy(world.lab.upstream, NAMES)
    with proxy.on(SERVER4) as port, world.lab.guest("--proxy", url(proxy, port), warning="reached") as guest:
        for host in ("allowed.example", OTHER4, OTHER6):
            assert probe(guest, "udp", host, str(ECHO), "one") in ("EACCES", "EHOSTUNREACH", "ENETUNREACH")
    assert proxy.asked == []
    assert others(world, SERVER4) == set()


def test_pings_go_nowhere(world: Internet, proxy: SocksProxy | HttpProxy) -> None:
    with proxy.on(SERVER4) as port, world.lab.guest("--proxy", url(proxy, port), warning="reached") as guest:
        assert guest.run("ping", "-c1", "-W2", OTHER4, check=False).returncode
        assert guest.run("ping", "-c1", "-W2", "allowed.example", check=False).returncode
    assert others(world, SERVER4) == set()


def test_failures_of_the_destination(world: Internet, proxy: SocksProxy | HttpProxy) -> None:
    with proxy.on(SERVER4) as port, world.lab.guest("--proxy", url(proxy, port), warning="reached") as guest:
        assert probe(guest, "tcp", "allowed.example", str(CLOSED), "x") == "ECONNREFUSED"
        assert probe(guest, "tcp", "unknown.example", "7", "x") == "EHOSTUNREACH"
    assert others(world, SERVER4) == set()


def test_a_proxy_that_is_not_there(world: Internet, proxy: SocksProxy | HttpProxy) -> None:
    """The guest's connections fail, and none is made directly."""
    with world.lab.guest("--proxy", url(proxy, CLOSED), warning="reached") as guest:
        assert probe(guest, "tcp", "allowed.example", "7", "x") == "ECONNREFUSED"
        assert probe(guest, "tcp", OTHER4, "7", "x") == "ECONNREFUSED"
        assert probe(guest, "udp", OTHER4, str(ECHO), "x").startswith("E")
    assert world.dns.questions == []
    assert others(world, SERVER4) == set()


def test_a_proxy_that_goes_away(world: Internet) -> None:
    """The association ends, and the next datagram begins another one."""
    proxy = SocksProxy(world.lab.upstream, NAMES)
    with proxy.on(SERVER4) as port, world.lab.guest("--proxy", url(proxy, port), warning="reached") as guest:

        def sockets() -> int:
            return len(
                world.lab.host.run("ss", "--no-header", "--tcp", "--udp", "--all", "--numeric").stdout.splitlines()
            )

        before = sockets()
        assert probe(guest, "udp", OTHER4, str(ECHO), "one") == "one"
        assert sockets() == before + 2
        proxy.end_associations()
        assert eventually(lambda: sockets() == before)
        assert eventually(lambda: probe(guest, "udp", OTHER4, str(ECHO), "two") == "two")
    assert others(world, SERVER4) == set()


@pytest.mark.parametrize("password", ["se:cret", "wrong", None])
def test_credentials(world: Internet, proxy: SocksProxy | HttpProxy, tmp_path: Path, password: str | None) -> None:
    proxy.credentials = "me:se:cret"
    file = tmp_path / "credentials"
    file.write_text(f"me:{password}\n")
    file.chmod(0o600)
    given = ["--proxy-credentials", str(file)] if password else []
    with proxy.on(SERVER4) as port, world.lab.guest("--proxy", url(proxy, port), *given, warning="reached") as guest:
        expected = f"this is {ALLOWED4} port 7" if password == "se:cret" else "EHOSTUNREACH"
        assert probe(guest, "tcp", "allowed.example", "7", "hello") == expected


def test_a_policy_by_name_holds_through_a_proxy(world: Internet, proxy: SocksProxy | HttpProxy) -> None:
    with (
        proxy.on(SERVER4) as port,
        world.lab.guest(
            "--allow",
            "allowed.example:443",
            "--allow",
            "allowed.example:80",
            "--proxy",
            url(proxy, port),
            warning="reached",
        ) as guest,
    ):
        assert probe(guest, "tls", "allowed.example", "443", "allowed.example") == f"this is {ALLOWED4} port 443"
        request = r"GET / HTTP/1.1\r\nHost: {}\r\n\r\n"
        assert probe(guest, "tcp", "allowed.example", "80", request.format("allowed.example")).startswith("this is")
        asked = list(proxy.asked)
        for words in (
            ("tls", "allowed.example", "443", "other.example"),
            ("tls", "allowed.example", "443", "-"),
            ("tcp", "allowed.example", "80", request.format("other.example")),
        ):
            assert "this is" not in probe(guest, *words)
        assert not any(b"other.example" in data for _, _, data in world.requests)
        assert len(proxy.asked) == len(asked) + 3
        for words in (
            ("tcp", "other.example", "443", "x"),
            ("tcp", OTHER4, "443", "x"),
            ("tcp", ALLOWED4, "443", "x"),
            ("tcp", "allowed.example", "7", "x"),
            ("udp", "allowed.example", "443", "x"),
        ):
            assert "this is" not in probe(guest, *words)
        assert len(proxy.asked) == len(asked) + 3
    assert world.dns.questions == []
    assert others(world, SERVER4) == set()


def test_one_rule_of_a_policy_goes_through_a_proxy(world: Internet, tmp_path: Path) -> None:
    proxy = SocksProxy(world.lab.upstream, NAMES)
    with proxy.on(SERVER4) as port:
        policy = tmp_path / "policy.toml"
        policy.write_text(
            'default = "refuse"\n'
            f'[[proxy]]\nname = "office"\nkind = "socks5"\nserver = "{SERVER4}:{port}"\n'
            '[[rule]]\naction = "allow"\nto = "allowed.example"\nport = 7\nvia = "office"\n'
            f'[[rule]]\naction = "allow"\nto = "{OTHER4}"\nport = 7\n'
        )
        with world.lab.guest("--policy", str(policy), warning="reached") as guest:
            assert probe(guest, "tcp", "allowed.example", "7", "x") == f"this is {ALLOWED4} port 7"
            assert probe(guest, "tcp", OTHER4, "7", "x") == f"this is {OTHER4} port 7"
    assert proxy.asked == [("allowed.example", 7)]
    assert others(world, SERVER4) == {OTHER4}


def test_the_proxies_of_these_tests_are_real(world: Internet, proxy: SocksProxy | HttpProxy) -> None:
    """curl, a client of another author, gets through them."""
    with proxy.on(SERVER4) as port:
        where = url(proxy, port).replace("socks5:", "socks5h:")
        words = ["curl", "-s", "--proxytunnel", "-x", where, f"http://allowed.example:{7}/"]
        assert world.lab.host.run(*words).stdout.startswith(f"this is {ALLOWED4} port 7")
