"""A policy that changes while a real guest uses it, and flows that wait for answers."""

from __future__ import annotations

import errno
import os
import pty
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.test_control import OUTSIDE, asked, ctl, path
from tests.lab import HOST4, SERVER4, SERVER6, USER, Lab, Namespace, eventually
from tests.lab.machines import bridged, configured, machine, serving
from tests.lab.servers import DnsServer, Echo, served

__all__ = ["path"]

PORT = 18282
PUBLIC = "20.0.0.10"
"""An address upstream that is public for rules, unlike those of documentation."""
CLOSED = 'default = "refuse"\n'
FORWARDED = 'allow in label="forwarded ports"'
"""The rule that opens forwarded ports, which each policy from a file gets."""
REFUSED = (errno.EACCES, errno.EHOSTUNREACH, errno.ECONNREFUSED)

addresses = pytest.mark.parametrize("address", [SERVER4, SERVER6], ids=["ipv4", "ipv6"])


@pytest.fixture(scope="module", autouse=True)
def echo(lab: Lab) -> Iterator[None]:
    """Servers upstream that send back what they get."""
    lab.upstream.shell(f"ip address add {PUBLIC}/32 dev lo")
    with ExitStack() as stack:
        stack.callback(lab.upstream.shell, f"ip address delete {PUBLIC}/32 dev lo")
        for address in (SERVER4, SERVER6, PUBLIC):
            for port in (PORT, PORT + 1):
                stack.enter_context(served(lab.upstream.listen(address, port), Echo.stream))
                stack.enter_context(Echo.datagrams(lab.upstream.datagram(address, port)))
        yield


def file(lab: Lab, name: str, text: str) -> str:
    """A policy file."""
    made = lab.directory / name
    made.write_text(text)
    return str(made)


def exchange(stream: socket.socket) -> None:
    """Send something there and back."""
    stream.sendall(b"question")
    assert stream.recv(100) == b"question"


def connects(guest: Namespace, address: str, port: int = PORT) -> bool:
    """Whether a connection opens, and is served."""
    try:
        stream = guest.connect(address, port)
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        return False
    with closing(stream):
        exchange(stream)
    return True


def datagrams(guest: Namespace, address: str, port: int = PORT) -> socket.socket:
    """A connected UDP socket in the guest."""
    made = guest.open_socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    made.connect((address, port))
    return made


def is_reset(stream: socket.socket) -> bool:
    """Whether a connection ends with a reset."""
    try:
        while True:
            stream.sendall(b"more")
            if not stream.recv(100):
                return False
    except ConnectionResetError:
        return True


@addresses
def test_a_rule_that_is_added_opens_and_one_that_is_removed_closes(lab: Lab, path: Path, address: str) -> None:
    rules = (f"allow tcp {address} port {PORT}", f"allow udp {address} port {PORT}")
    with lab.guest("-c", str(path), user=USER, warning="reached ") as guest:
        assert connects(guest, address)
        assert asked(lab, path, "policy", user=USER)["rules"] == []
        asked(lab, path, "policy", "replace", file(lab, "closed.toml", CLOSED), user=USER)
        assert not connects(guest, address)

        asked(lab, path, "policy", "add", *rules, user=USER)
        assert not connects(guest, address, PORT + 1)
        stream = guest.connect(address, PORT)
        flow = datagrams(guest, address)
        with closing(stream), closing(flow):
            exchange(stream)
            exchange(flow)
            asked(lab, path, "policy", "remove", rules[0], user=USER)
            assert is_reset(stream)
            exchange(flow)
            assert [one["protocol"] for one in asked(lab, path, "flows", user=USER)["flows"]] == ["udp"]
            asked(lab, path, "policy", "remove", rules[1], user=USER)
            assert asked(lab, path, "flows", user=USER)["flows"] == []
            flow.send(b"more")
            with pytest.raises(OSError, match=r"Permission denied|No route to host"):
                flow.recv(100)
        assert asked(lab, path, "policy", user=USER)["rules"] == [FORWARDED]


def test_open_flows_stay_on_request(lab: Lab, path: Path) -> None:
    with lab.guest("-c", str(path), warning="reached ") as guest, closing(guest.connect(SERVER4, PORT)) as stream:
        exchange(stream)
        asked(lab, path, "policy", "replace", file(lab, "closed.toml", CLOSED), "--keep-flows")
        exchange(stream)
        assert not connects(guest, SERVER4)


def test_a_file_that_is_wrong_changes_nothing(lab: Lab, path: Path) -> None:
    wrong = file(lab, "wrong.toml", CLOSED + '[[rule]]\naction = "allow"\nprotocol = "tpc"\n')
    with lab.guest("-c", str(path)) as guest, closing(guest.connect(SERVER4, PORT)) as stream:
        before = asked(lab, path, "policy")
        done = ctl(lab, path, "policy", "replace", wrong)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert f"{wrong}:4" in done.stderr
        assert "tpc" in done.stderr
        done = ctl(lab, path, "policy", "add", "refuse any", "alow tcp")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert asked(lab, path, "policy") == before
        exchange(stream)
        assert connects(guest, SERVER4)


def test_the_guest_cannot_change_its_own_rules(lab: Lab, path: Path) -> None:
    command = [sys.executable, "-m", "sansnet_cli", "ctl", str(path), "policy"]
    done = lab.sansnet(["-c", str(path)], command, user=USER)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "only programs in sansnet's own network namespace" in done.stderr
    # A namespace that the guest makes is not sansnet's either
    if shutil.which("unshare"):
        done = lab.sansnet(["-c", str(path)], ["unshare", "--user", "--net", *command], user=USER)
        assert "only programs in sansnet's own network namespace" in done.stderr


class Attempt:
    """A connection of the guest that opens in a thread."""

    def __init__(self, guest: Namespace, address: str, port: int = PORT) -> None:
        self.result: bool | None = None
        self._thread = threading.Thread(target=self._run, args=(guest, address, port), daemon=True)
        self._thread.start()

    def _run(self, guest: Namespace, address: str, port: int) -> None:
        self.result = connects(guest, address, port)

    def end(self) -> bool | None:
        """Whether it opened; None if it still waits."""
        self._thread.join(20)
        return self.result


def pending(lab: Lab, path: Path, number: int = 1) -> list[Any]:
    """The flows that wait, once there are so many."""
    found: list[Any] = []

    def there() -> bool:
        found[:] = asked(lab, path, "pending")["flows"]
        return len(found) >= number

    assert eventually(there, seconds=20)
    return found


@addresses
def test_flows_that_wait_are_allowed_and_refused_once_or_always(lab: Lab, path: Path, address: str) -> None:
    with lab.guest("-c", str(path), warning="reached ") as guest:
        asked(lab, path, "policy", "replace", file(lab, "asks.toml", 'default = "ask"\n'))
        for command, opens in (("refuse", False), ("allow", True)):
            attempt = Attempt(guest, address)
            [waiting] = pending(lab, path)
            assert waiting["destination"] == {"address": address, "port": PORT}
            assert asked(lab, path, command, str(waiting["id"])) == {"id": waiting["id"], "rule": None}
            assert attempt.end() is opens

        attempts = [Attempt(guest, address) for _ in range(3)]
        first = pending(lab, path, 3)[0]
        rule = asked(lab, path, "allow", str(first["id"]), "--always")["rule"]
        assert rule == first["rule"]
        assert [attempt.end() for attempt in attempts] == [True] * 3
        assert connects(guest, address), "the rule decides"

        attempt = Attempt(guest, address, PORT + 1)
        [waiting] = pending(lab, path)
        asked(lab, path, "refuse", str(waiting["id"]), "--always")
        assert attempt.end() is False
        assert not connects(guest, address, PORT + 1)
        assert asked(lab, path, "pending") == {"flows": [], "total": 0}
        done = ctl(lab, path, "allow", str(waiting["id"]))
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert f"no flow {waiting['id']} waits" in done.stderr
        assert len(asked(lab, path, "policy")["rules"]) == 3


def test_a_datagram_that_waits_passes_when_it_is_allowed(lab: Lab, path: Path) -> None:
    with lab.guest("-c", str(path), warning="reached ") as guest, closing(datagrams(guest, SERVER4)) as flow:
        asked(lab, path, "policy", "replace", file(lab, "asks.toml", 'default = "ask"\n'))
        flow.send(b"first")
        flow.send(b"second")
        [waiting] = pending(lab, path)
        asked(lab, path, "allow", str(waiting["id"]))
        assert [flow.recv(100), flow.recv(100)] == [b"first", b"second"]


def test_a_rule_decides_about_flows_that_wait(lab: Lab, path: Path) -> None:
    with lab.guest("-c", str(path), warning="reached ") as guest:
        asked(lab, path, "policy", "replace", file(lab, "asks.toml", 'default = "ask"\n'))
        attempt = Attempt(guest, SERVER4)
        pending(lab, path)
        asked(lab, path, "policy", "add", "allow", "tcp", f"{SERVER4}:{PORT}")
        assert attempt.end() is True


def test_rules_stay_for_later_machines(lab: Lab, path: Path) -> None:
    with serving(lab, "-c", str(path)) as server:
        asked(lab, path, "policy", "replace", file(lab, "closed.toml", CLOSED))
        for opens in (False, True, True):
            with machine() as guest, bridged(guest, server.path):
                configured(guest, ipv6=False)
                assert connects(guest, SERVER4) is (opens and asked(lab, path, "policy")["total"] == 2)
                if not opens:
                    asked(lab, path, "policy", "add", f"allow tcp {SERVER4}:{PORT}")
                    assert connects(guest, SERVER4)
            assert eventually(lambda: asked(lab, path, "counters")["guest"] is False)
        assert server.end() == 0


def test_a_policy_stays_when_the_hosts_network_changes(lab: Lab, path: Path) -> None:
    with lab.guest("-c", str(path), warning="reached ") as guest:
        asked(lab, path, "policy", "replace", file(lab, "closed.toml", CLOSED))
        assert not connects(guest, SERVER4)
        added = "203.0.113.77"
        before = guest.shell("cat /etc/resolv.conf").stdout
        lab.set_resolver(f"nameserver {added}", "search lab.example")
        try:
            assert eventually(lambda: guest.shell("cat /etc/resolv.conf").stdout != before)
            time.sleep(0.2)
            assert not connects(guest, SERVER4)
        finally:
            lab.set_resolver(f"nameserver {SERVER4}", "search lab.example")


CLIENT = """
import socket, sys
try:
    stream = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20)
    stream.sendall(b"question")
    print(stream.recv(100).decode())
except OSError as error:
    print(error.strerror)
"""


def client(address: str, port: int = PORT) -> list[str]:
    """A command of a guest that prints what a server answers, or an error."""
    return [sys.executable, "-c", CLIENT, address, str(port)]


def test_a_command_with_ask_says_how_to_answer(lab: Lab) -> None:
    """The socket is in a directory of its own, which is gone afterwards."""
    done: list[subprocess.CompletedProcess[str]] = []
    errors = lab.directory / "ask-stderr"
    line = lab.sansnet_command(["--ask"], client(SERVER4), user=None, before="")
    with errors.open("w") as said:
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=said, text=True, stdin=subprocess.DEVNULL)
        try:
            assert eventually(lambda: "to answer" in errors.read_text(), seconds=20)
            words = shlex.split(errors.read_text().partition("another terminal: ")[2].splitlines()[0])
            assert words[:2] == ["sansnet", "ctl"]
            assert words[3:] == ["ask"]
            assert Path(words[2]).parent.stat().st_mode & 0o777 == 0o700
            command = [sys.executable, "-W", "error", "-m", "sansnet_cli", *words[1:]]
            done.append(lab.host.run(*command, input="a\n", check=False))
            out, _ = process.communicate(timeout=30)
        finally:
            process.kill()
            process.wait()
    assert out == "question\n"
    assert f"tcp {SERVER4}:{PORT}, " in done[0].stdout
    assert f"new rule: allow out tcp {SERVER4}:{PORT}" in done[0].stdout
    assert not Path(words[2]).parent.exists()


def test_without_an_answer_in_time_a_flow_is_refused(lab: Lab) -> None:
    began = time.monotonic()
    done = lab.sansnet(["--ask", "--ask-time", "1"], client(SERVER4))
    assert done.stdout in ("No route to host\n", "Permission denied\n")
    assert 1 <= time.monotonic() - began < 20
    assert "wait 1 s for an answer" in done.stderr


def test_serve_asks_on_its_own_terminal(lab: Lab) -> None:
    """Nothing else reads the terminal of `serve`."""
    where = lab.directory / "asking.socket"
    master, slave = pty.openpty()
    line = [sys.executable, "-W", "error", "-m", "sansnet_cli", "serve", "--socket", str(where), "--ask"]
    shown = bytearray()

    def read() -> None:
        with suppress(OSError):  # the terminal's other end is closed
            while data := os.read(master, 1 << 12):
                shown.extend(data)

    # A session of its own whose terminal this is, as in a shell
    setsid = ["setsid", "--ctty", "--wait"]
    process = subprocess.Popen(lab.host.command(*setsid, *line), stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert eventually(lambda: b"waiting for a guest" in shown, seconds=20), shown
        with machine() as guest, bridged(guest, where):
            configured(guest, ipv6=False)
            for reply, opens in ((b"n\n", False), (b"a\n", True)):
                del shown[:]
                attempt = Attempt(guest, SERVER4)
                assert eventually(lambda: f"tcp {SERVER4}:{PORT}, ".encode() in shown, seconds=20), shown
                os.write(master, reply)
                assert attempt.end() is opens
            assert connects(guest, SERVER4)
    finally:
        os.write(master, b"\x03")
        try:
            process.wait(10)
        finally:
            process.kill()
            os.close(master)
            reader.join(5)


def test_a_flow_to_a_name_is_asked_about_by_name(lab: Lab, path: Path) -> None:
    server = DnsServer({("asked.example", "A"): [PUBLIC], ("asked.example", "AAAA"): []})
    with server.on(lab.upstream, SERVER4):
        line = lab.sansnet_command(["--ask", "-c", str(path)], client("asked.example"), user=USER, before="")
        process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
        try:
            assert eventually(path.exists, seconds=20)
            [waiting] = pending(lab, path)
            assert (waiting["protocol"], waiting["name"]) == ("tcp", "asked.example")
            assert waiting["rule"] == f"allow out tcp asked.example:{PORT}"
            assert server.questions == [], "no question leaves before the answer"
            asked(lab, path, "allow", str(waiting["id"]), "--always")
            out, _ = process.communicate(timeout=30)
        finally:
            process.kill()
            process.wait()
    assert out == "question\n"
    assert set(server.questions) == {"asked.example"}


def test_a_rule_by_name_is_added_to_a_guest_that_had_none(lab: Lab, path: Path) -> None:
    server = DnsServer({("late.example", "A"): [PUBLIC], ("late.example", "AAAA"): []})
    with server.on(lab.upstream, SERVER4), lab.guest("-c", str(path), warning="reached ") as guest:
        asked(lab, path, "policy", "replace", file(lab, "named.toml", f'rules = ["allow tcp late.example:{PORT}"]\n'))
        assert guest.run(*client("late.example")).stdout == "question\n"
        assert guest.run(*client("other.example")).stdout != "question\n"
        assert not connects(guest, PUBLIC), "a bare address is no name"
        assert set(server.questions) == {"late.example"}


def test_names_get_no_addresses_of_the_hosts_networks_when_rules_name_them_late(lab: Lab, path: Path) -> None:
    server = DnsServer({("late.example", "A"): [PUBLIC], ("late.example", "AAAA"): []})
    lab.host.shell("ip link add names0 type veth peer names1; ip address add 198.18.5.1/15 dev names0")
    lab.host.shell("ip link set names0 up; ip link set names1 up")
    try:
        with server.on(lab.upstream, SERVER4), lab.guest("-c", str(path), warning="reached ") as guest:
            rules = f'rules = ["allow tcp late.example:{PORT}"]\n'
            asked(lab, path, "policy", "replace", file(lab, "late.toml", rules))
            assert guest.run(*client("late.example")).stdout == "question\n"
            own = guest.run("getent", "ahostsv4", "late.example").stdout
            assert own.strip()
            assert not own.startswith(("198.18.", "198.19."))
    finally:
        lab.host.shell("ip link delete names0")


def test_forwarded_ports_stay_open_unless_a_rule_closes_them(lab: Lab, path: Path) -> None:
    def reaches() -> bool:
        with suppress(ConnectionResetError), closing(lab.upstream.connect(HOST4, OUTSIDE)) as stream:
            stream.sendall(b"question")
            return stream.recv(100) == b"question"
        return False

    with (
        lab.guest("-c", str(path), "-t", f"{OUTSIDE}:{PORT}", warning="reached ") as guest,
        served(guest.listen("0.0.0.0", PORT), Echo.stream),
    ):
        assert reaches()
        asked(lab, path, "policy", "replace", file(lab, "closed.toml", CLOSED))
        assert reaches()
        asked(lab, path, "policy", "remove", "forwarded ports")
        assert not reaches()
