"""The laboratory itself: a host with an uplink, an upstream with servers, and sansnet run in the host."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.lab import usage
from tests.lab.namespaces import Namespace, eventually, held_namespace, running
from tests.lab.processes import outside

__all__ = [
    "GATEWAY4",
    "GATEWAY6",
    "HOST4",
    "HOST6",
    "RUN_SANSNET",
    "SERVER4",
    "SERVER6",
    "UNREACHABLE4",
    "UNREACHABLE6",
    "USER",
    "Guest",
    "Lab",
    "laboratory",
]

HOST4: Final = "198.51.100.2"
HOST6: Final = "2001:db8:1::2"
GATEWAY4: Final = "198.51.100.1"
GATEWAY6: Final = "2001:db8:1::1"
SERVER4: Final = "203.0.113.10"
"""An address of upstream's that the host reaches through its gateway."""
SERVER6: Final = "2001:db8:2::10"
UNREACHABLE4: Final = "192.0.2.1"
"""Upstream answers with an ICMP error: no route to host."""
UNREACHABLE6: Final = "2001:db8:dead::1"
USER: Final = 54321
"""The id of an ordinary user and its group, without an entry in any file."""

RUN_SANSNET: Final = (sys.executable, "-W", "error", "-m", "sansnet_cli", "run")
"""The command under test, with every warning of Python an error."""

_ROOT: Final = Path(__file__).resolve().parents[2]


class Guest(Namespace):
    """A guest of `sansnet run`, whose command waits.

    Attributes:
        sansnet: the process id of sansnet itself; `pid` is that of its command.
        interface: name of the guest's interface.
    """

    def __init__(self, pid: int, sansnet: int) -> None:
        super().__init__(pid)
        self.sansnet = sansnet
        names = [line.split(":")[0].strip() for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]]
        [self.interface] = [name for name in names if name != "lo"]

    def descriptors(self) -> int:
        """How many descriptors sansnet has open."""
        return len(os.listdir(f"/proc/{self.sansnet}/fd"))

    def is_served(self) -> bool:
        """Whether the network runs, and not only the command: the driver waits for frames of the tap."""
        return usage.is_served(self.sansnet)

    def processor_time(self) -> float:
        """The processor time of sansnet in seconds."""
        return usage.processor_time(self.sansnet)

    def resident(self) -> int:
        """Memory of sansnet's, in bytes."""
        return usage.resident(self.sansnet)


class Lab:
    """A host and an upstream.

    Attributes:
        directory: a directory of this laboratory's, readable by everyone.
    """

    def __init__(self, host: Namespace, upstream: Namespace, directory: Path) -> None:
        self.host = host
        self.upstream = upstream
        self.directory = directory

    def set_resolver(self, *lines: str) -> None:
        """Change the host's /etc/resolv.conf."""
        (self.directory / "resolv.conf").write_text("".join(f"{line}\n" for line in lines))

    def sansnet_command(self, options: list[str], command: list[str], *, user: int | None, before: str) -> list[str]:
        """The command line of `sansnet run OPTIONS -- COMMAND` in the host; it keeps its process id.

        `before` is a shell script that runs as root in a mount namespace of its own.
        """
        line = [*RUN_SANSNET, *options, "--", *command]
        if user is not None:
            line = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--", *line]
        if before:
            line = ["unshare", "--mount", "--", "sh", "-ec", f"{before}\nexec {shlex.join(line)}"]
        return self.host.command("env", f"HOME={self.directory}", "LC_ALL=C.UTF-8", *line)

    def sansnet(
        self,
        options: list[str],
        command: list[str],
        *,
        user: int | None = None,
        before: str = "",
        timeout: float = 60.0,
        **process: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run `sansnet run OPTIONS -- COMMAND` in the host, as root or as a user, to its end."""
        return subprocess.run(
            self.sansnet_command(options, command, user=user, before=before),
            check=False,
            text=True,
            capture_output=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            **process,
        )

    @contextmanager
    def guest(self, *options: str, user: int | None = None, warning: str = "") -> Iterator[Guest]:
        """A guest that is there for the block; then sansnet must have ended with status 0.

        Its stderr must be empty, or one line with the warning.
        """
        command = self.sansnet_command(list(options), ["sh", "-c", "echo $$; exec cat"], user=user, before="")
        with (
            tempfile.TemporaryFile("w+") as errors,
            running(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors) as process,
        ):
            assert process.stdin is not None
            assert process.stdout is not None
            first = process.stdout.readline()
            if not first.strip():
                process.wait(10)
                errors.seek(0)
                raise AssertionError(f"sansnet ended with status {process.returncode}: {errors.read()}")
            guest = Guest(outside(process.pid, int(first)), process.pid)
            assert eventually(guest.is_served)  # what is measured must not be the loading of the program
            yield guest
            process.stdin.close()
            status = process.wait(10)
            errors.seek(0)
            said = errors.read()
            assert (status, said.count("\n")) == (0, int(bool(warning))), said
            assert warning in said

    @contextmanager
    def http_server(self, port: int, directory: Path) -> Iterator[None]:
        """Serve a directory upstream."""
        script = str(Path(__file__).with_name("http_server.py"))
        command = self.upstream.command(sys.executable, script, str(port), str(directory))
        with running(command, stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            yield

    @contextmanager
    def iperf3_server(self, address: str, port: int) -> Iterator[None]:
        """Serve iperf3 upstream."""
        # Not any address: its answers over UDP would come from the one that is nearest to the client.
        command = self.upstream.command("iperf3", "-s", "--forceflush", "--bind", address, "--port", str(port))
        with running(command, stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            while not server.stdout.readline().startswith("Server listening"):
                assert server.poll() is None
            yield

    @contextmanager
    def rsync_daemon(self, port: int, directory: Path) -> Iterator[None]:
        """Serve a directory, writable, as the module `files` upstream."""
        configuration = self.directory / "rsyncd.conf"
        configuration.write_text(
            f"use chroot = no\nuid = root\ngid = root\n[files]\npath = {directory}\nread only = no\n"
        )
        command = ["rsync", "--daemon", "--no-detach", f"--port={port}", f"--config={configuration}"]
        with running(self.upstream.command(*command)):
            listening = f"ss --no-header --listening --tcp --numeric 'sport = {port}'"
            assert eventually(lambda: bool(self.upstream.shell(listening).stdout))
            yield


@contextmanager
def laboratory(*, uplink: bool = True) -> Iterator[Lab]:
    """A laboratory, torn down at the end of the block. Without an uplink the host has a loopback interface only."""
    with (
        tempfile.TemporaryDirectory(prefix="sansnet-lab-") as name,
        held_namespace() as host,
        held_namespace() as upstream,
    ):
        directory = Path(name)
        directory.chmod(0o755)
        lab = Lab(host, upstream, directory)
        lab.set_resolver(f"nameserver {SERVER4}", "search lab.example")
        host.shell(
            f"""
            mount --bind {name}/resolv.conf /etc/resolv.conf
            mount -t tmpfs -o mode=755 none /dev/net
            mknod -m 666 /dev/net/tun c 10 200
            echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range
            """
        )
        _reveal(host, directory)
        if uplink:
            _join(host, upstream)
        yield lab


def _join(host: Namespace, upstream: Namespace) -> None:
    subprocess.run(
        f"ip link add uplink netns {host.pid} type veth peer name downlink netns {upstream.pid}".split(), check=True
    )
    # An unreachable route would answer too, but for IPv4 not more often than once a second and host.
    upstream.shell(
        f"""
        echo 1 >/proc/sys/net/ipv4/ip_forward
        echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
        echo 0 >/proc/sys/net/ipv4/icmp_ratelimit
        echo 0 >/proc/sys/net/ipv6/icmp/ratelimit
        ip address add {GATEWAY4}/24 dev downlink
        ip address add {GATEWAY6}/64 dev downlink nodad
        ip link set downlink up
        ip address add {SERVER4}/32 dev lo
        ip address add {SERVER6}/128 dev lo nodad
        nft add table inet lab
        nft 'add chain inet lab arriving {{ type filter hook prerouting priority 0; }}'
        nft add rule inet lab arriving ip daddr {UNREACHABLE4} reject with icmp type host-unreachable
        nft add rule inet lab arriving ip6 daddr {UNREACHABLE6} reject with icmpv6 type no-route
        """
    )
    host.shell(
        f"""
        echo 0 >/proc/sys/net/ipv6/conf/uplink/accept_ra
        ip address add {HOST4}/24 dev uplink
        ip address add {HOST6}/64 dev uplink nodad
        ip link set uplink up
        ip route add default via {GATEWAY4}
        ip route add default via {GATEWAY6}
        """
    )
    ping = f"ping -q -c1 -W1 {SERVER4} && ping -q -c1 -W1 {SERVER6}"
    assert eventually(lambda: host.shell(ping, check=False).returncode == 0)


def _reveal(host: Namespace, directory: Path) -> None:
    """Let an ordinary user reach Python and sansnet, even below a private directory."""
    wanted = {Path(sys.base_prefix), Path(sys.prefix), Path(sysconfig.get_path("purelib")), _ROOT}
    hidden: dict[Path, set[Path]] = {}
    for path in wanted:
        for parent in reversed(path.resolve().parents):
            if not parent.stat().st_mode & 0o001:
                hidden.setdefault(parent, set()).add(path.resolve())
                break
    for number, (parent, paths) in enumerate(hidden.items()):
        store = directory / f"hidden-{number}"
        store.mkdir()
        host.run("mount", "--bind", str(parent), str(store))
        host.run("mount", "-t", "tmpfs", "-o", "mode=755", "none", str(parent))
        for path in sorted(paths):
            host.run("mkdir", "-p", str(path))
            host.run("mount", "--bind", str(store / path.relative_to(parent)), str(path))
