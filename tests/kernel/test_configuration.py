"""How a guest gets its addresses: from sansnet directly, by DHCP, by router advertisements, by DHCPv6."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from tests.lab import GATEWAY4, GATEWAY6, HOST4, HOST6, SERVER4, SERVER6, USER, Guest, Lab, eventually, laboratory
from tests.lab.namespaces import running

SCRIPT: Final = str(Path(__file__).with_name("guest_environment.sh"))


def addresses(guest: Guest, family: int, scope: str = "global") -> list[str]:
    """Addresses with their prefix lengths, of the guest's interface."""
    text = guest.shell(f"ip -json -{family} address show dev {guest.interface}").stdout
    infos: list[dict[str, Any]] = [info for link in json.loads(text) for info in link.get("addr_info", [])]
    return [f"{info['local']}/{info['prefixlen']}" for info in infos if info.get("scope") == scope]


def default_routes(guest: Guest, family: int) -> list[tuple[str | None, str]]:
    """Gateway and interface of each default route."""
    routes = json.loads(guest.shell(f"ip -json -{family} route show default").stdout or "[]")
    return [(route.get("gateway"), route["dev"]) for route in routes]


def pings(guest: Guest, address: str) -> bool:
    return guest.run("ping", "-c1", "-W5", address, check=False).returncode == 0


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
def test_the_hosts_configuration_is_copied(lab: Lab, user: int | None) -> None:
    with lab.guest(user=user) as guest:
        assert guest.interface == "uplink"
        assert addresses(guest, 4) == [f"{HOST4}/24"]
        assert addresses(guest, 6) == [f"{HOST6}/64"]
        assert default_routes(guest, 4) == [(GATEWAY4, "uplink")]
        assert [device for _, device in default_routes(guest, 6)] == ["uplink"]
        assert "mtu 65520 " in guest.shell("ip link show dev uplink").stdout
        assert "127.0.0.1/8" in guest.shell("ip address show dev lo up").stdout
        assert all(pings(guest, address) for address in (SERVER4, SERVER6, GATEWAY4, GATEWAY6))


def test_more_routes_and_addresses_of_the_interface_are_copied() -> None:
    with laboratory() as lab:
        lab.host.shell(
            f"""
            ip address add 198.51.100.77/24 dev uplink
            ip -6 address add 2001:db8:1::77/64 dev uplink nodad
            ip route add 203.0.113.128/25 via {GATEWAY4}
            ip -6 route add 2001:db8:3::/48 via {GATEWAY6}
            """
        )
        with lab.guest() as guest:
            assert set(addresses(guest, 4)) == {f"{HOST4}/24", "198.51.100.77/24"}
            assert set(addresses(guest, 6)) == {f"{HOST6}/64", "2001:db8:1::77/64"}
            assert f"203.0.113.128/25 via {GATEWAY4}" in guest.shell("ip -4 route").stdout
            assert f"2001:db8:3::/48 via {GATEWAY6}" in guest.shell("ip -6 route").stdout


def test_given_addresses_replace_the_hosts(lab: Lab) -> None:
    options = ["-a", "10.7.7.100", "-n", "255.255.255.0", "-g", "10.7.7.1", "-a", "2001:db8:7::100", "-g", "fe80::77"]
    with lab.guest(*options, "-I", "eth0", "--ns-mac-addr", "02:00:00:00:07:07") as guest:
        assert guest.interface == "eth0"
        assert addresses(guest, 4) == ["10.7.7.100/24"]
        assert addresses(guest, 6) == ["2001:db8:7::100/64"]
        assert default_routes(guest, 4) == [("10.7.7.1", "eth0")]
        assert default_routes(guest, 6) == [("fe80::77", "eth0")]
        assert "02:00:00:00:07:07" in guest.shell("ip link show dev eth0").stdout
        assert pings(guest, SERVER4)
        assert pings(guest, SERVER6)


def test_a_gateway_outside_the_prefix_is_reached(lab: Lab) -> None:
    with lab.guest("-4", "-a", "10.7.7.100/32", "-g", "10.8.8.1") as guest:
        assert default_routes(guest, 4) == [("10.8.8.1", guest.interface)]
        assert pings(guest, SERVER4)


@pytest.mark.parametrize(("option", "left_out"), [("-4", 6), ("-6", 4)])
def test_one_family_can_be_left_out(lab: Lab, option: str, left_out: int) -> None:
    with lab.guest(option, "-D", SERVER4 if option == "-4" else SERVER6) as guest:
        assert addresses(guest, left_out) == []
        assert default_routes(guest, left_out) == []
        assert pings(guest, SERVER4 if option == "-4" else SERVER6)


def test_a_given_interface_is_the_template(lab: Lab) -> None:
    with lab.guest("-i", "uplink") as guest:
        assert addresses(guest, 4) == [f"{HOST4}/24"]


def test_the_outbound_address_can_be_chosen() -> None:
    with laboratory() as lab:
        lab.host.shell("ip address add 198.51.100.88/24 dev uplink")
        with lab.guest("-o", "198.51.100.88") as guest, lab.upstream.listen(SERVER4) as listener:
            with guest.connect(SERVER4, listener.getsockname()[1]), listener.accept()[0] as far:
                assert far.getpeername()[0] == "198.51.100.88"
            with guest.datagram("0.0.0.0") as near, lab.upstream.datagram(SERVER4) as there:
                near.sendto(b"hello", there.getsockname())
                assert there.recvfrom(100)[1][0] == "198.51.100.88"


def test_a_hostname_is_the_commands_alone(lab: Lab) -> None:
    before = lab.host.run("hostname").stdout
    assert lab.sansnet(["-H", "visitor"], ["hostname"]).stdout == "visitor\n"
    assert lab.host.run("hostname").stdout == before


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
def test_a_host_without_a_network_gives_link_local_addresses(user: int | None) -> None:
    options = ["--map-host-loopback", "169.254.2.3"]
    with laboratory(uplink=False) as lab, lab.guest(*options, user=user, warning="has no network") as guest:
        assert guest.interface == "tap0"
        assert addresses(guest, 4) == addresses(guest, 4, "global") + addresses(guest, 4, "link")
        assert "169.254.2.1/16" in guest.shell("ip -4 address show dev tap0").stdout
        with lab.host.listen("127.0.0.1") as listener:
            guest.connect("169.254.2.3", listener.getsockname()[1]).close()


def learnt(output: str) -> dict[str, str]:
    """The last environment that a DHCP client gave its script."""
    pairs = [line[6:].partition("=") for line in output.splitlines() if line.startswith("DHCP: ")]
    return {name: value for name, _, value in pairs}


def udhcpc(*more: str) -> list[str]:
    options = ["-i", "eth0", "-f", "-n", "-q", "-t", "4", "-T", "1", "-s", SCRIPT]
    wanted = [f"-O{name}" for name in ("mtu", "search", "staticroutes", "hostname", "lease")]
    return ["busybox", "udhcpc", *options, *wanted, *more]


def test_busybox_udhcpc_gets_every_option(lab: Lab) -> None:
    options = ["--no-config", "-I", "eth0", "-m", "9000", "-D", "192.0.2.53", "-D", "192.0.2.54", "-H", "visitor"]
    done = lab.sansnet([*options, "-S", "one.example", "-S", "two.example"], udhcpc(), timeout=30)
    assert done.returncode == 0, done.stderr
    got = learnt(done.stdout)
    expected = {
        "ip": HOST4,
        "mask": "24",
        "router": GATEWAY4,
        "dns": "192.0.2.53 192.0.2.54",
        "mtu": "9000",
        "search": "one.example two.example",
        "serverid": GATEWAY4,
        "hostname": "visitor",
    }
    assert {name: got.get(name) for name in expected} == expected


def test_a_dhcp_client_learns_the_route_to_a_gateway_outside_its_prefix(lab: Lab) -> None:
    options = ["--no-config", "-I", "eth0", "-4", "-a", "10.7.7.100/32", "-g", "10.8.8.1"]
    got = learnt(lab.sansnet(options, udhcpc(), timeout=30).stdout)
    assert got["staticroutes"].split() == ["10.8.8.1/32", "0.0.0.0", "0.0.0.0/0", "10.8.8.1"]


def test_a_dhcp_client_that_asks_for_another_address_gets_its_own(lab: Lab) -> None:
    got = learnt(lab.sansnet(["--no-config", "-I", "eth0"], udhcpc("-r", "10.9.9.9"), timeout=30).stdout)
    assert got["ip"] == HOST4


def test_what_dhcp_says_makes_the_network_work(lab: Lab) -> None:
    with lab.guest("--no-config", "-I", "eth0") as guest:
        assert addresses(guest, 4) == []
        got = learnt(guest.run(*udhcpc(), timeout=30).stdout)
        guest.shell(
            f"""
            ip address add {got["ip"]}/{got["mask"]} dev eth0
            ip link set eth0 mtu {got["mtu"]}
            ip route add default via {got["router"]}
            """
        )
        assert pings(guest, SERVER4)


def test_no_dhcp_means_none(lab: Lab) -> None:
    done = lab.sansnet(["--no-config", "--no-dhcp", "-I", "eth0"], udhcpc(), timeout=30)
    assert done.returncode == 1
    assert "ip" not in learnt(done.stdout)


def test_the_kernel_configures_itself_by_router_advertisements(lab: Lab) -> None:
    with lab.guest("--no-config", "-I", "eth0", "-m", "1400") as guest:
        guest.shell("ip link set dev eth0 up")
        assert eventually(lambda: bool(addresses(guest, 6)))
        [address] = addresses(guest, 6)
        assert address.startswith("2001:db8:1:")
        assert address.endswith("/64")
        assert eventually(lambda: "tentative" not in guest.shell("ip -6 address show dev eth0").stdout)
        [(gateway, _)] = default_routes(guest, 6)
        assert gateway is not None
        assert gateway.startswith("fe80:")
        assert "mtu 1400" in guest.shell("ip -6 route show default; ip link show dev eth0").stdout
        assert pings(guest, SERVER6)


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
def test_the_line_of_the_readme_for_a_guest_that_configures_itself(lab: Lab, user: int | None) -> None:
    [line] = [line for line in Path("README.md").read_text().splitlines() if "--no-config" in line]
    sansnet, run, *options, dashes, shell, option, script = shlex.split(line, comments=True)
    assert (sansnet, run, dashes) == ("sansnet", "run", "--")
    script = script.replace("exec sh", f"sleep 4; ip -6 address show dev eth0; exec ping -c1 -W5 {SERVER6}")
    done = lab.sansnet(options, [shell, option, script], user=user)
    assert (done.returncode, done.stderr) == (0, "")
    assert "inet6 2001:db8:1:" in done.stdout


def test_no_ndp_means_none(lab: Lab) -> None:
    with lab.guest("--no-config", "--no-ndp", "-I", "eth0") as guest:
        guest.shell("ip link set dev eth0 up")
        assert not eventually(lambda: bool(addresses(guest, 6)), seconds=3)


def test_dhclient_gets_an_address_over_dhcpv6(lab: Lab, tmp_path: Path) -> None:
    options = ["--no-config", "-I", "eth0", "-D", "2001:db8::53", "-S", "one.example"]
    with lab.guest(*options) as guest:
        guest.shell("ip link set dev eth0 up")
        link_local = "ip -6 address show dev eth0 scope link -tentative"
        assert eventually(lambda: "fe80" in guest.shell(link_local).stdout)
        files = ["-lf", str(tmp_path / "leases"), "-pf", str(tmp_path / "pid"), "-cf", "/dev/null"]
        # In the foreground, where it goes on when it has its lease: a process in the background could be left behind.
        command = guest.command("dhclient", "-6", "-1", "-d", "-sf", SCRIPT, *files, "eth0")
        with running(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as client:
            assert client.stdout is not None
            lines = []
            while "DHCP: reason=BOUND6\n" not in lines:  # the script prints in the order of names
                lines.append(client.stdout.readline())
                assert lines[-1]
    got = learnt("".join(lines))
    assert got["new_ip6_address"] == HOST6
    assert got["new_dhcp6_name_servers"] == "2001:db8::53"
    assert got["new_dhcp6_domain_search"].rstrip(".") == "one.example"
