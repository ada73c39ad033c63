"""A guest's network follows the host's while the guest runs."""

from __future__ import annotations

import contextlib
import errno
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.kernel.test_attach import attached
from tests.kernel.test_name_servers import NAME, answering, words
from tests.lab import HOST4, HOST6, SERVER4, SERVER6, USER, Lab, Namespace, eventually, laboratory
from tests.lab.callers import Caller, contained, ended
from tests.lab.machines import INTERFACE, bridged, configured, machine, serving
from tests.lab.namespaces import held_namespace, running

OTHER4: Final = "10.77.0.2"
OTHER_GATEWAY4: Final = "10.77.0.1"
OTHER6: Final = "2001:db8:77::2"
OTHER_GATEWAY6: Final = "2001:db8:77::1"
"""Addresses on the host's second uplink."""
OLD_VIEW, NEW_VIEW = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A host with two links upstream, of which it uses the first; a server upstream, and one on the host's loopback."""
    with laboratory() as made:
        line = f"ip link add second netns {made.host.pid} type veth peer name other netns {made.upstream.pid}"
        subprocess.run(line.split(), check=True)
        made.upstream.shell(
            f"""
            ip address add {OTHER_GATEWAY4}/24 dev other
            ip address add {OTHER_GATEWAY6}/64 dev other nodad
            ip link set other up
            """
        )
        made.host.shell(
            f"""
            echo 0 >/proc/sys/net/ipv6/conf/second/accept_ra
            echo 0 >/proc/sys/net/ipv6/conf/second/accept_dad
            ip address add {OTHER4}/24 dev second
            ip address add {OTHER6}/64 dev second nodad
            ip link set second up
            """
        )
        with answering((made.upstream, SERVER4, OLD_VIEW), (made.host, "127.0.0.1", NEW_VIEW)):
            yield made


def roam(lab: Lab) -> None:
    """The second link is the uplink from now on; the first one stays."""
    lab.host.shell(
        f"""
        ip route replace default via {OTHER_GATEWAY4}
        ip -6 route replace default via {OTHER_GATEWAY6}
        """
    )


def resolved(guest: Namespace) -> list[str]:
    """The C library's answer for the name."""
    return words(guest.run("getent", "ahostsv4", NAME, check=False).stdout)


def resolves(guest: Namespace, expected: str) -> bool:
    return resolved(guest) == [expected]


def asked(guest: Namespace, server: str) -> str:
    """A server's answer for it, in the guest's network alone."""
    command = ["nsenter", f"--target={guest.pid}", "--net", "dig", "+short", "+tries=1", "+time=2", f"@{server}", NAME]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout.strip()


def own(guest: Namespace, interface: str) -> set[str]:
    """Addresses by which it begins connections."""
    command = ["nsenter", f"--target={guest.pid}", "--net", "ip", "-o", "address", "show", "dev", interface]
    lines = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.splitlines()
    return {line.split()[3] for line in lines if "scope global" in line and "deprecated" not in line}


def networks6(guest: Namespace, interface: str) -> set[str]:
    """The first 48 bits of its IPv6 addresses, as text."""
    return {":".join(address.split(":")[:3]) + ":" for address in own(guest, interface) if ":" in address}


def default_routes(guest: Namespace) -> list[str]:
    found = []
    for family in ("-4", "-6"):
        command = ["nsenter", f"--target={guest.pid}", "--net", "ip", family, "route", "show", "default"]
        lines = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.splitlines()
        found += [line.split()[2] for line in lines]
    return found


# name servers


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
def test_a_commands_name_servers_follow(lab: Lab, user: int | None) -> None:
    with lab.guest(user=user) as guest:
        assert resolved(guest) == [OLD_VIEW]
        lab.set_resolver("nameserver 127.0.0.1", "search new.example")
        assert eventually(lambda: resolved(guest) == [NEW_VIEW])
        assert "search new.example" in guest.run("cat", "/etc/resolv.conf").stdout
        assert asked(guest, SERVER4) == NEW_VIEW  # a program that does not look at the file again
        lab.set_resolver(f"nameserver {SERVER4}")
        assert eventually(lambda: resolved(guest) == [OLD_VIEW])
        assert asked(guest, "169.254.53.1") == OLD_VIEW


def test_a_file_that_a_command_changed_itself_is_left_alone(lab: Lab) -> None:
    with lab.guest() as guest:
        guest.shell("echo 'nameserver 192.0.2.99' >/etc/resolv.conf")
        lab.set_resolver("nameserver 127.0.0.1")
        assert eventually(lambda: asked(guest, SERVER4) == NEW_VIEW)
        assert guest.run("cat", "/etc/resolv.conf").stdout == "nameserver 192.0.2.99\n"


@contextmanager
def own_etc(lab: Lab) -> Iterator[Path]:
    """Give the host an /etc in which files can be renamed."""
    etc = lab.directory / "etc"
    shutil.copytree("/etc", etc, symlinks=True, ignore_dangling_symlinks=True)
    (etc / "resolv.conf").unlink(missing_ok=True)
    (etc / "resolv.conf").write_text(f"nameserver {SERVER4}\n")
    lab.host.shell(f"umount /etc/resolv.conf; mount --bind {etc} /etc")
    yield etc


def replaced(file: Path, text: str) -> None:
    """As network managers do it."""
    new = file.with_name("new")
    new.write_text(text)
    new.rename(file)


def test_a_file_that_is_renamed_over_the_hosts_is_noticed_and_the_guest_keeps_its_own(lab: Lab) -> None:
    """The kernel takes mounts away whose file is replaced by somebody outside."""
    with own_etc(lab) as etc, lab.guest("-H", "visitor") as guest:
        for address, expected in (("127.0.0.1", NEW_VIEW), (SERVER4, OLD_VIEW), ("127.0.0.1", NEW_VIEW)):
            replaced(etc / "resolv.conf", f"nameserver {address}\n")
            assert eventually(partial(resolves, guest, expected))
        replaced(etc / "resolv.conf", "nameserver 127.0.0.1\n# nothing else\n")
        replaced(etc / "hosts", "192.0.2.5 newcomer.example\n")
        assert eventually(lambda: "newcomer" in guest.run("cat", "/etc/hosts").stdout)
        assert eventually(lambda: "169.254.53.1" in guest.run("cat", "/etc/resolv.conf").stdout)
        assert f"{HOST4} visitor" in guest.run("cat", "/etc/hosts").stdout
        assert guest.run("ls", "/proc/fs").stdout  # what was mounted there for a moment is gone


def test_the_target_of_a_symbolic_link_is_watched(lab: Lab) -> None:
    """As systemd-resolved has it."""
    with own_etc(lab) as etc:
        run = lab.directory / "resolve"
        (etc / "resolv.conf").unlink()
        (etc / "resolv.conf").symlink_to(run / "deep" / "stub")
        (run / "deep").mkdir(parents=True)
        (run / "deep" / "stub").write_text(f"nameserver {SERVER4}\n")
        with lab.guest() as guest:
            assert resolved(guest) == [OLD_VIEW]
            replaced(run / "deep" / "stub", "nameserver 127.0.0.1\n")
            assert eventually(lambda: resolved(guest) == [NEW_VIEW])
            replaced(etc / "resolv.conf", f"nameserver {SERVER4}\n")
            assert eventually(lambda: asked(guest, "169.254.53.1") == OLD_VIEW)


def test_given_name_servers_stay(lab: Lab) -> None:
    with lab.guest("-D", SERVER4) as guest:
        lab.set_resolver("nameserver 127.0.0.1")
        roam(lab)
        assert eventually(lambda: OTHER_GATEWAY4 in default_routes(guest))
        assert resolved(guest) == [OLD_VIEW]


def test_what_is_behind_dns_forward_follows(lab: Lab) -> None:
    with lab.guest("-D", "none", "--dns-forward", "192.0.2.53") as guest:
        assert asked(guest, "192.0.2.53") == OLD_VIEW
        lab.set_resolver("nameserver 127.0.0.1")
        assert eventually(lambda: asked(guest, "192.0.2.53") == NEW_VIEW)


# addresses and routes


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
def test_addresses_and_routes_follow_and_open_connections_stay(lab: Lab, user: int | None) -> None:
    with lab.guest(user=user) as guest, lab.upstream.listen(SERVER4) as listener, lab.upstream.listen(SERVER6) as six:
        streams = []
        for one, server in ((listener, SERVER4), (six, SERVER6)):
            near = guest.connect(server, one.getsockname()[1])
            streams.append((near, one.accept()[0]))
        roam(lab)
        assert eventually(lambda: default_routes(guest) == [OTHER_GATEWAY4, OTHER_GATEWAY6])
        assert f"{OTHER4}/24" in own(guest, "uplink")
        assert f"{HOST4}/24" not in own(guest, "uplink")
        for near, far in streams:
            near.sendall(b"still here")
            assert far.recv(100) == b"still here"
            far.sendall(b"so am I")
            assert near.recv(100) == b"so am I"
            near.close()
            far.close()
        for one, server, source in ((listener, SERVER4, OTHER4), (six, SERVER6, OTHER6)):
            with guest.connect(server, one.getsockname()[1]) as near, one.accept()[0] as far:
                assert near.getsockname()[0] == source
                assert far.getpeername()[0] == source


def test_an_uplink_that_went_away_and_came_back(lab: Lab) -> None:
    with lab.guest() as guest, lab.upstream.listen(SERVER4) as listener:
        lab.host.shell("ip link set uplink down; ip link set second down")
        time.sleep(1)
        assert own(guest, "uplink") == {f"{HOST4}/24", f"{HOST6}/64"}
        lab.host.shell(f"ip link set second up; ip address replace {OTHER6}/64 dev second nodad")
        roam(lab)
        assert eventually(lambda: OTHER_GATEWAY4 in default_routes(guest))
        with guest.connect(SERVER4, listener.getsockname()[1]) as near:
            assert near.getsockname()[0] == OTHER4
        assert eventually(lambda: own(guest, "uplink") == {f"{OTHER4}/24", f"{OTHER6}/64"})


def test_a_host_that_gets_its_network_later() -> None:
    """As a service that begins before there is a lease."""
    with laboratory(uplink=False) as lab, lab.guest(warning="has no network") as guest:
        assert own(guest, "tap0") == {"169.254.2.1/16"}
        line = f"ip link add second netns {lab.host.pid} type veth peer name other netns {lab.upstream.pid}"
        subprocess.run(line.split(), check=True)
        lab.upstream.shell(f"ip address add {OTHER_GATEWAY4}/24 dev other; ip link set other up")
        lab.host.shell(
            f"""
            ip address add {OTHER4}/24 dev second
            ip link set second up
            ip route add default via {OTHER_GATEWAY4}
            """
        )
        assert eventually(lambda: own(guest, "tap0") == {f"{OTHER4}/24"})
        assert eventually(lambda: default_routes(guest)[0] == OTHER_GATEWAY4)
        assert guest.run("ping", "-q", "-c1", "-W5", OTHER_GATEWAY4).returncode == 0


def test_given_addresses_and_gateways_stay(lab: Lab) -> None:
    options = ["-a", "10.9.9.9/24", "-g", "10.9.9.1", "-a", "2001:db8:9::9", "-g", "fe80::1"]
    with lab.guest(*options) as guest:
        lab.set_resolver("nameserver 127.0.0.1")
        roam(lab)
        assert eventually(lambda: resolved(guest) == [NEW_VIEW])
        time.sleep(1)
        assert own(guest, guest.interface) == {"10.9.9.9/24", "2001:db8:9::9/64"}
        assert default_routes(guest) == ["10.9.9.1", "fe80::1"]


def test_what_the_guest_added_itself_stays(lab: Lab) -> None:
    with lab.guest() as guest:
        guest.shell("ip address add 172.20.0.1/24 dev uplink; ip route add 192.0.2.128/25 dev uplink")
        roam(lab)
        assert eventually(lambda: OTHER_GATEWAY4 in default_routes(guest))
        assert "172.20.0.1/24" in own(guest, "uplink")
        assert "192.0.2.128/25" in guest.shell("ip route").stdout


def test_a_storm_of_changes_costs_little_and_the_last_one_counts(lab: Lab) -> None:
    with lab.guest() as guest:
        before = guest.processor_time()
        lab.host.shell(
            """
            for round in 1 2 3 4 5 6 7 8 9 10; do
                for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
                    echo "route add 192.0.2.$n/32 dev second"
                    echo "route delete 192.0.2.$n/32 dev second"
                done
            done | ip -batch -
            """
        )
        roam(lab)
        lab.set_resolver("nameserver 127.0.0.1")
        assert eventually(lambda: resolved(guest) == [NEW_VIEW])
        assert eventually(lambda: OTHER_GATEWAY4 in default_routes(guest))
        assert guest.processor_time() - before < 2


def test_an_idle_host_costs_nothing(lab: Lab) -> None:
    with lab.guest() as guest:
        lab.set_resolver("nameserver 127.0.0.1")
        assert eventually(lambda: resolved(guest) == [NEW_VIEW])
        time.sleep(1)
        before = guest.processor_time()
        time.sleep(3)
        assert guest.processor_time() - before < 0.1


# other kinds of guests


@contextmanager
def named(lab: Lab) -> Iterator[Namespace]:
    """A namespace of the host's root that has a name."""
    lab.host.shell("mkdir -p /run/netns; mount -t tmpfs none /run/netns; ip netns add blue")
    with running(lab.host.command("ip", "netns", "exec", "blue", "sleep", "600")) as inhabitant:
        assert eventually(lambda: "sleep" in Path(f"/proc/{inhabitant.pid}/comm").read_text())
        yield Namespace(inhabitant.pid)
    lab.host.shell("umount /run/netns/blue /run/netns")


def follows(lab: Lab, guest: Namespace) -> None:
    """Addresses and routes do, twice."""
    roam(lab)
    assert eventually(lambda: own(guest, "uplink") >= {f"{OTHER4}/24", f"{OTHER6}/64"})
    assert eventually(lambda: default_routes(guest) == [OTHER_GATEWAY4, OTHER_GATEWAY6])
    lab.host.shell("ip address add 10.77.0.3/24 dev second")
    assert eventually(lambda: "10.77.0.3/24" in own(guest, "uplink"))


@pytest.mark.parametrize("kind", ["pid", "name", "container", "owner"])
def test_attach_follows(lab: Lab, kind: str) -> None:
    """By root in its own user namespace, in one of an ordinary user's, and by that user."""
    with contextlib.ExitStack() as stack:
        options = []
        if kind == "name":
            visited, options = stack.enter_context(named(lab)), ["--netns", "blue"]
        else:
            of_user = kind in ("container", "owner")
            visited = stack.enter_context(contained(lab, USER) if of_user else held_namespace())
            options = [str(visited.pid)]
        stack.enter_context(attached(lab, *options, user=USER if kind == "owner" else None))
        assert asked(visited, SERVER4) == OLD_VIEW
        lab.set_resolver("nameserver 127.0.0.1")
        assert eventually(lambda: asked(visited, SERVER4) == NEW_VIEW)
        follows(lab, visited)


@pytest.mark.parametrize("options", [[], ["--runas", "65534"]], ids=["root", "nobody"])
@pytest.mark.parametrize("user", [None, USER], ids=["own", "container"])
def test_pasta_of_root_follows(lab: Lab, user: int | None, options: list[str]) -> None:
    with (
        tempfile.TemporaryDirectory(dir=lab.directory) as name,
        held_namespace() if user is None else contained(lab, user) as guest,
    ):
        caller, pid_file = Caller(lab, Path(name)), Path(name, "pid")
        done = caller.call("pasta", "-q", "--config-net", *options, "-P", str(pid_file), str(guest.pid))
        assert (done.status, done.errors) == (0, "")
        with ended(pid_file):
            follows(lab, guest)


def test_pasta_follows(lab: Lab) -> None:
    """As podman calls it, whose containers know the host's servers from its file, and one address of ours."""
    with tempfile.TemporaryDirectory(dir=lab.directory) as name, contained(lab, USER) as container:
        caller = Caller(lab, Path(name))
        options = [
            "--config-net",
            "--dns-forward",
            "169.254.1.1",
            "-t",
            "none",
            "-u",
            "none",
            "-T",
            "none",
            "-U",
            "none",
        ]
        line = caller.command("pasta", "-f", "-q", *options, str(container.pid), user=USER)
        with running(line, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL):
            assert eventually(lambda: asked(container, SERVER4) == OLD_VIEW)
            assert asked(container, "169.254.1.1") == OLD_VIEW
            lab.set_resolver("nameserver 127.0.0.1")
            assert eventually(lambda: asked(container, "169.254.1.1") == NEW_VIEW)
            roam(lab)
            assert eventually(lambda: own(container, "uplink") >= {f"{OTHER4}/24", f"{OTHER6}/64"})


@pytest.mark.parametrize("program", ["serve", "passt"])
def test_a_machine_follows(lab: Lab, program: str) -> None:
    with contextlib.ExitStack() as stack:
        if program == "serve":
            path = stack.enter_context(serving(lab)).path
        else:
            name = stack.enter_context(tempfile.TemporaryDirectory(dir=lab.directory))
            path = lab.directory / "passt.socket"
            line = Caller(lab, Path(name)).command("passt", "-f", "-q", "-s", str(path))
            stack.enter_context(running(line, stdin=subprocess.DEVNULL))
        guest = stack.enter_context(machine())
        stack.enter_context(bridged(guest, path))
        configured(guest)
        assert resolved(guest) == [OLD_VIEW]
        lab.set_resolver("nameserver 127.0.0.1")
        assert eventually(lambda: resolved(guest) == [NEW_VIEW])
        roam(lab)
        assert eventually(lambda: networks6(guest, INTERFACE) == {OTHER6.removesuffix(":2")})
        configured(guest)
        assert f"{OTHER4}/24" in own(guest, INTERFACE)
        assert OTHER_GATEWAY4 in default_routes(guest)
        assert guest.run("ping", "-q", "-c1", "-W5", SERVER4).returncode == 0
        assert guest.run("ping", "-q", "-c1", "-W5", SERVER6).returncode == 0


def test_the_guest_of_a_serve_that_comes_later_gets_what_the_host_has_then(lab: Lab) -> None:
    with serving(lab) as server:
        roam(lab)
        lab.set_resolver("nameserver 127.0.0.1")
        time.sleep(1.5)
        with machine() as guest, bridged(guest, server.path):
            configured(guest)
            assert f"{OTHER4}/24" in own(guest, INTERFACE)
            assert "nameserver 169.254.53.1" in guest.run("cat", "/etc/resolv.conf").stdout
            assert resolved(guest) == [NEW_VIEW]


def test_a_guest_that_configures_itself_hears_of_a_new_router(lab: Lab) -> None:
    with lab.guest("--no-config", "-I", "eth0") as guest:
        guest.shell(
            """
            echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad
            echo 0 >/proc/sys/net/ipv6/conf/eth0/router_solicitation_delay
            ip link set eth0 up
            """
        )
        assert eventually(lambda: networks6(guest, "eth0") == {HOST6.removesuffix(":2")})
        roam(lab)
        assert eventually(lambda: networks6(guest, "eth0") == {OTHER6.removesuffix(":2")})


def test_ports_from_outside_lead_to_the_new_address(lab: Lab) -> None:
    with lab.guest("-t", "8099") as guest:
        roam(lab)
        assert eventually(lambda: f"{OTHER4}/24" in own(guest, "uplink"))
        with guest.listen(OTHER4, 8099) as listener:
            listener.settimeout(1)

            def arrives(client: Namespace, address: str) -> bool:
                """A connection of the moment before the network knows the new address goes to the former one."""
                with suppress(TimeoutError), client.connect(address, 8099), listener.accept()[0] as accepted:
                    return bool(accepted.getsockname()[0] == OTHER4)
                return False

            for client, address in ((lab.upstream, OTHER4), (lab.host, "127.0.0.1")):
                assert eventually(partial(arrives, client, address))


@pytest.mark.parametrize(("source", "target"), [("127.0.0.1", HOST4), ("::1", HOST6)])
def test_what_uses_the_loopback_path_keeps_its_address(lab: Lab, source: str, target: str) -> None:
    with (
        lab.guest("-t", "8099", "-u", "8099") as guest,
        guest.listen(target, 8099) as listener,
        guest.datagram(target, 8099) as there,
        lab.host.datagram(source) as here,
        lab.host.connect(source, 8099) as near,
        listener.accept()[0] as far,
    ):
        here.sendto(b"question", (source, 8099))
        question, address = there.recvfrom(100)
        assert question == b"question"
        roam(lab)
        assert eventually(lambda: default_routes(guest) == [OTHER_GATEWAY4, OTHER_GATEWAY6])
        near.sendall(b"still here")
        assert far.recv(100) == b"still here"
        far.sendall(b"so am I")
        assert near.recv(100) == b"so am I"
        there.sendto(b"answer", address)
        assert here.recv(100) == b"answer"


# policies


def test_the_resolver_of_a_policy_asks_the_name_servers_that_the_host_has_now(lab: Lab) -> None:
    with lab.guest("--names", "real", "--allow", NAME, "--allow", "192.0.2.0/24", warning="reached") as guest:
        assert resolved(guest) == [OLD_VIEW]
        lab.set_resolver("nameserver 127.0.0.1")
        assert eventually(lambda: resolved(guest) == [NEW_VIEW])
        assert asked(guest, SERVER4) == NEW_VIEW  # a program that does not look at the file again


def test_a_new_address_of_the_host_is_closed_as_the_others(lab: Lab) -> None:
    added = "10.99.0.1"
    options = "--refuse", "host", "--allow", "any"
    with lab.guest(*options, warning="reached") as guest, lab.host.listen("0.0.0.0", 8099):
        lab.host.shell(f"ip address add {added}/32 dev second")
        assert eventually(lambda: not reaches(guest, added, 8099))
        assert not reaches(guest, OTHER4, 8099)
    with lab.guest() as guest, lab.host.listen("0.0.0.0", 8099):
        assert reaches(guest, added, 8099)


def reaches(guest: Namespace, address: str, port: int) -> bool:
    """Whether a guest can connect; if the rules refuse it, it gets an error at once."""
    try:
        guest.connect(address, port).close()
    except OSError as error:
        if error.errno != errno.EHOSTUNREACH:
            raise
        return False
    return True
