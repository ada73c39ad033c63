"""Stand-ins for virtual machines: namespaces whose kernel a bridge connects to `sansnet serve`."""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

from tests.lab.laboratory import RUN_SANSNET, Guest, Lab
from tests.lab.namespaces import Namespace, eventually, held_namespace, running

__all__ = ["INTERFACE", "Server", "bridged", "configured", "guest_of_kind", "machine", "machine_guest", "serving"]

INTERFACE: Final = "eth0"

_HERE: Final = Path(__file__).parent
_numbers: Final = itertools.count()


class Server:
    """A running `sansnet serve`.

    Attributes:
        process: its process.
        path: of its socket.
    """

    def __init__(self, process: subprocess.Popen[str], path: Path, errors: Any) -> None:
        self.process = process
        self.path = path
        self._errors = errors

    def said(self) -> str:
        """Its stderr so far."""
        self._errors.seek(0)
        text: str = self._errors.read()
        return text

    def says(self, words: str) -> bool:
        """Whether it writes something within some seconds."""
        return eventually(lambda: words in self.said())

    def end(self) -> int:
        """Its exit status after SIGTERM."""
        self.process.terminate()
        return self.process.wait(10)


@contextmanager
def serving(lab: Lab, *options: str, path: Path | None = None, user: int | None = None) -> Iterator[Server]:
    """`sansnet serve` in the host, as root or as a user, which listens."""
    where = path or lab.directory / f"machine-{next(_numbers)}.socket"
    line = [*RUN_SANSNET[:-1], "serve", "--socket", str(where), *options]
    if user is not None:
        line = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--", *line]
    with (
        tempfile.TemporaryFile("w+") as errors,
        running(lab.host.command("env", "LC_ALL=C.UTF-8", *line), stderr=errors) as process,
    ):
        server = Server(process, where, errors)
        assert eventually(lambda: "waiting for a guest" in server.said() or process.poll() is not None)
        assert process.poll() is None, server.said()
        yield server


@contextmanager
def machine() -> Iterator[Namespace]:
    """A namespace that may have taps, and a resolv.conf of its own."""
    with held_namespace() as guest, tempfile.NamedTemporaryFile("w") as resolver:
        guest.shell(
            f"""
            mount -t tmpfs -o mode=755 none /dev/net
            mknod -m 666 /dev/net/tun c 10 200
            mount --bind {resolver.name} /etc/resolv.conf
            echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad
            echo 0 >/proc/sys/net/ipv6/conf/default/router_solicitation_delay
            echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range
            """
        )
        yield guest


@contextmanager
def bridged(guest: Namespace, where: Path | int, *, mtu: int = 65520) -> Iterator[subprocess.Popen[str]]:
    """An interface of the machine's, joined to a socket's path or a connected socket."""
    command = guest.command(sys.executable, str(_HERE / "bridge.py"), str(where), INTERFACE, str(mtu))
    descriptors = (where,) if isinstance(where, int) else ()
    with running(command, stdout=subprocess.PIPE, pass_fds=descriptors) as bridge:
        assert bridge.stdout is not None
        assert bridge.stdout.readline() == "ready\n"
        yield bridge


def configured(guest: Namespace, *, ipv6: bool = True) -> None:
    """Get addresses: by DHCP, and by the router advertisement that the kernel asks for."""
    script = str(_HERE / "dhcp_script.sh")
    guest.run("busybox", "udhcpc", "-i", INTERFACE, "-n", "-q", "-f", "-t", "5", "-T", "1", "-O", "mtu", "-s", script)
    route = f"ip -6 route show default dev {INTERFACE}"
    assert not ipv6 or eventually(lambda: "default" in guest.shell(route).stdout)


@contextmanager
def machine_guest(lab: Lab, *options: str) -> Iterator[Guest]:
    """A machine on a `sansnet serve` of its own, with addresses of both families."""
    with serving(lab, *options) as server, machine() as namespace, bridged(namespace, server.path):
        configured(namespace)
        yield Guest(namespace.pid, server.process.pid)
        assert server.end() == 0
        said = [line.partition(" (process")[0].partition(": -netdev")[0] for line in server.said().splitlines()]
        assert said == ["sansnet: waiting for a guest", "sansnet: a guest has connected"]


def guest_of_kind(lab: Lab, kind: str, *options: str) -> AbstractContextManager[Guest]:
    """A guest of `sansnet run` or of `sansnet serve`."""
    return machine_guest(lab, *options) if kind == "serve" else lab.guest(*options)
