"""Our own resolver as programs in a guest see it: by the C library and by dig, over UDP and TCP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from tests.lab import SERVER4, SERVER6, USER, DnsServer, Lab, laboratory

PUBLIC: Final = [f"20.0.0.{n}" for n in range(1, 101)]
ZONE: Final = {
    ("www.example.org", "A"): ["20.0.0.1"],
    ("www.example.org", "AAAA"): ["2a01::1"],
    ("many.example.org", "A"): PUBLIC,
    ("inside.example.org", "A"): ["10.7.7.7"],
    ("long.example.org", "TXT"): [f'"{n:02}{"x" * 200}"' for n in range(20)],
    ("mail.example.org", "MX"): ["10 mx.example.org."],
}
ALLOW: Final = ["--allow", "*.example.org"]
REAL: Final = [*ALLOW, "--names", "real"]


@pytest.fixture
def server(lab: Lab) -> Iterator[DnsServer]:
    made = DnsServer(ZONE)
    with made.on(lab.upstream, SERVER4, SERVER6):
        yield made


def dig(lab: Lab, options: list[str], *arguments: str, user: int | None = None) -> list[str]:
    """The words that dig prints."""
    return lab.sansnet(options, ["dig", "+tries=1", *arguments], user=user).stdout.split()


@pytest.mark.parametrize("by", ["+notcp", "+tcp"])
@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
def test_a_name_has_an_address_of_its_own(lab: Lab, server: DnsServer, by: str, user: int | None) -> None:
    types = [by, "+short", "www.example.org", "A", "www.example.org", "AAAA", "-x", "198.18.0.1"]
    assert dig(lab, ALLOW, *types, user=user) == ["198.18.0.1", "fd73:616e:736e:6574::1", "www.example.org."]
    assert sorted(server.questions) == ["www.example.org"] * 2


def test_the_c_library_gets_both_families(lab: Lab, server: DnsServer) -> None:
    done = lab.sansnet(ALLOW, ["getent", "ahosts", "www.example.org"])
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"198.18.0.1", "fd73:616e:736e:6574::1"}
    done = lab.sansnet(REAL, ["getent", "ahosts", "www.example.org"])
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"20.0.0.1", "2a01::1"}


@pytest.mark.parametrize("by", ["+notcp", "+tcp"])
@pytest.mark.parametrize("names", [ALLOW, REAL], ids=["own", "real"])
def test_a_refused_question_leaves_the_host_never(lab: Lab, server: DnsServer, by: str, names: list[str]) -> None:
    words = dig(lab, names, by, "secret.evil.example", "TXT", "example.org", "NULL")
    assert words.count("REFUSED,") == 2
    assert "(Blocked)" in words
    assert server.questions == []
    assert dig(lab, [], "+short", "www.example.org") == ["20.0.0.1"], "without a policy, it is the host's server"


@pytest.mark.parametrize("by", ["+notcp", "+tcp", "+noedns"])
def test_large_answers_are_whole(lab: Lab, server: DnsServer, by: str) -> None:
    """The host's server truncates what our own resolver asks by UDP, and that what dig asks."""
    assert dig(lab, REAL, by, "+short", "many.example.org") != []
    assert sum(word.count("x" * 200) for word in dig(lab, ALLOW, by, "+short", "long.example.org", "TXT")) == 20
    assert dig(lab, ALLOW, by, "+short", "mail.example.org", "MX") == ["10", "mx.example.org."]


@pytest.mark.parametrize("names", [ALLOW, REAL], ids=["own", "real"])
def test_a_name_that_leads_inside_has_no_address(lab: Lab, server: DnsServer, names: list[str]) -> None:
    assert dig(lab, names, "+short", "inside.example.org") == []
    assert dig(lab, [], "+short", "inside.example.org") == ["10.7.7.7"]


def test_several_questions_on_one_connection(lab: Lab, server: DnsServer) -> None:
    names = ["www.example.org", "secret.evil.example", "many.example.org"] * 5
    words = dig(lab, ALLOW, "+tcp", "+keepopen", *names)
    assert words.count("NOERROR,") == 10
    assert words.count("REFUSED,") == 5


@pytest.mark.parametrize("by", ["+notcp", "+tcp"])
def test_other_servers_are_closed(lab: Lab, server: DnsServer, by: str) -> None:
    """This one is no name server of the host's file."""
    question = [by, "+short", "+timeout=2", f"@{SERVER6}", "www.example.org"]
    assert dig(lab, [], *question) == ["20.0.0.1"]
    asked = len(server.questions)
    assert "20.0.0.1" not in dig(lab, ALLOW, *question)
    assert len(server.questions) == asked


@contextmanager
def host_with(server: DnsServer, *addresses: str) -> Iterator[Lab]:
    """A host whose name servers are these, of which only the last works."""
    with laboratory() as lab, server.on(lab.host, addresses[-1]):
        lab.set_resolver(*(f"nameserver {address}" for address in addresses))
        yield lab


@pytest.mark.parametrize("addresses", [["127.0.0.53"], ["::1"], ["127.0.0.1", "127.0.0.53"]], ids="+".join)
def test_the_hosts_servers_on_loopback_are_asked_in_order(addresses: list[str]) -> None:
    server = DnsServer(ZONE)
    with host_with(server, *addresses) as lab:
        for by in ("+notcp", "+tcp"):
            assert dig(lab, ALLOW, by, "+short", "www.example.org") == ["198.18.0.1"]
