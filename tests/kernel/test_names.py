"""Names looked up in a guest, by whatever resolver the host has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab import SERVER4, SERVER6, USER, DnsServer, Lab, laboratory


@pytest.fixture
def upstream_dns(lab: Lab, dns: DnsServer) -> Iterator[DnsServer]:
    with dns.on(lab.upstream, SERVER4, SERVER6):
        yield dns


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
def test_a_name_is_looked_up_with_the_hosts_resolver(lab: Lab, upstream_dns: DnsServer, user: int | None) -> None:
    done = lab.sansnet([], ["dig", "+short", "+tries=1", "www.lab.example", "A", "www.lab.example", "AAAA"], user=user)
    assert (done.stdout.split(), done.stderr, done.returncode) == ([SERVER4, SERVER6], "", 0)


def test_the_search_list_is_copied(lab: Lab, upstream_dns: DnsServer) -> None:
    done = lab.sansnet([], ["getent", "ahosts", "www"])
    assert {line.split()[0] for line in done.stdout.splitlines()} == {SERVER4, SERVER6}


def test_a_long_answer_comes_over_tcp(lab: Lab, upstream_dns: DnsServer) -> None:
    done = lab.sansnet([], ["dig", "+noedns", "+tries=1", "long.lab.example", "TXT"])
    assert done.stdout.count("x" * 200) == 20
    assert "TCP" in done.stdout


def test_a_missing_name_is_missing(lab: Lab, upstream_dns: DnsServer) -> None:
    assert "NXDOMAIN" in lab.sansnet([], ["dig", "+tries=1", "none.lab.example"]).stdout


@contextmanager
def host_with_local_resolver(dns: DnsServer, *addresses: str) -> Iterator[Lab]:
    with laboratory() as lab, dns.on(lab.host, *addresses):
        lab.set_resolver(*(f"nameserver {address}" for address in addresses))
        yield lab


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["127.0.0.53"], ["::1"], ["127.0.0.1", "::1"]])
def test_a_resolver_on_the_hosts_loopback_is_reached(dns: DnsServer, addresses: list[str], user: int | None) -> None:
    with host_with_local_resolver(dns, *addresses) as lab:
        done = lab.sansnet([], ["sh", "-c", "for by in notcp tcp; do dig +short +$by www.lab.example; done"], user=user)
        assert (done.stdout.split(), done.stderr) == ([SERVER4, SERVER4], "")
        assert dns.questions == ["www.lab.example"] * 2


def test_nothing_but_dns_reaches_the_hosts_loopback_with_such_a_resolver(dns: DnsServer) -> None:
    script = 'for server in $(sed -n "s/^nameserver //p" /etc/resolv.conf); do curl -sS -m 3 http://$server:8080/; done'
    with host_with_local_resolver(dns, "127.0.0.1") as lab, lab.host.listen("127.0.0.1", 8080):
        done = lab.sansnet([], ["sh", "-c", script])
        assert done.returncode == 7, done.stderr  # curl: could not connect


def test_dns_forward_and_dns_host(lab: Lab, upstream_dns: DnsServer) -> None:
    options = ["--dns-forward", "192.0.2.53", "--dns-host", SERVER4]
    done = lab.sansnet(options, ["dig", "+short", "+tries=1", "@192.0.2.53", "www.lab.example"])
    assert done.stdout.split() == [SERVER4]


def test_dns_forward_alone_goes_to_the_hosts_resolver_and_is_the_guests(lab: Lab, upstream_dns: DnsServer) -> None:
    script = "cat /etc/resolv.conf; dig +short +tries=1 www.lab.example"
    done = lab.sansnet(["--dns-forward", "192.0.2.53"], ["sh", "-c", script])
    assert "nameserver 192.0.2.53" in done.stdout
    assert done.stdout.split()[-1] == SERVER4


def test_given_servers_and_search_lists_are_the_guests(lab: Lab) -> None:
    options = ["-D", "192.0.2.1", "--dns", "2001:db8::53", "-S", "one.example", "--search", "two.example"]
    lines = lab.sansnet(options, ["cat", "/etc/resolv.conf"]).stdout.splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        "nameserver 192.0.2.1",
        "nameserver 2001:db8::53",
        "search one.example two.example",
    ]


def test_none_leaves_servers_and_search_lists_out(lab: Lab) -> None:
    content = lab.sansnet(["-D", "none", "-S", "none"], ["cat", "/etc/resolv.conf"]).stdout
    assert "nameserver" not in content
    assert "search" not in content


def test_the_hosts_file_is_as_it_was(lab: Lab) -> None:
    before = lab.host.run("cat", "/etc/resolv.conf").stdout
    lab.sansnet(["-D", "192.0.2.1"], ["true"])
    assert lab.host.run("cat", "/etc/resolv.conf").stdout == before
    mounts = json.loads(lab.host.run("findmnt", "--json", "--target", "/etc/resolv.conf").stdout)
    assert len(mounts["filesystems"]) == 1
