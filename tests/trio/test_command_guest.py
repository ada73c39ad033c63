"""Guests that are commands in their own namespaces."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from sansnet_core import UsageError, addresses
from sansnet_core.records import replace
from sansnet_trio.guest.command import CommandGuest
from sansnet_trio.guest.errors import CommandNotExecutable, CommandNotFound, GuestError
from sansnet_trio.guest.plan import GuestPlan, ReadyGuest
from sansnet_trio.hostinfo import HostError, InterfaceAddress, Route
from tests.lab.processes import outside

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("one_thread")]

MAC = bytes.fromhex("020000000707")
FULL = GuestPlan(
    interface="eth7",
    mtu=1500,
    mac=MAC,
    addresses=(
        InterfaceAddress(addresses.parse("10.7.0.2"), 24),
        InterfaceAddress(addresses.parse("10.7.0.3"), 24),
        InterfaceAddress(addresses.parse("2001:db8:7::2"), 64),
    ),
    routes=(
        Route(destination=bytes(4), prefix_length=0, gateway=addresses.parse("10.8.0.1")),
        Route(destination=addresses.parse("10.8.0.1"), prefix_length=32),
        Route(destination=addresses.parse("10.7.0.0"), prefix_length=24),
        Route(destination=bytes(16), prefix_length=0, gateway=addresses.parse("fe80::1"), metric=1024),
    ),
    resolv_conf="nameserver 192.0.2.53\n",
    hostname="visitor",
)


def run(command: list[str], plan: GuestPlan = FULL) -> int:
    """The status of a command in a guest without a driver."""

    async def main() -> int:
        with CommandGuest.fork(command, lambda: (plan, None)) as guest:
            ready = await guest.ready()
            os.close(ready.tap)
            guest.start()
            with trio.fail_after(10):
                return await guest.wait()

    return trio.run(main)


@pytest.fixture
def output(tmp_path: Path) -> Callable[[str], str]:
    """The output of a shell script in a guest with the full plan."""

    def result(script: str, plan: GuestPlan = FULL) -> str:
        file = tmp_path / "output"

        async def main() -> int:
            with CommandGuest.fork(["sh", "-c", f"exec >{file}; {script}"], lambda: (plan, None)) as guest:
                ready = await guest.ready()
                try:
                    guest.start()
                    with trio.fail_after(10):
                        return await guest.wait()
                finally:
                    os.close(ready.tap)

        assert trio.run(main) == 0
        return file.read_text()

    return result


def test_the_plan_is_carried_out(output: Callable[..., str]) -> None:
    [link] = json.loads(output("ip -json address show dev eth7"))
    assert (link["address"], link["mtu"]) == ("02:00:00:00:07:07", 1500)
    assert "UP" in link["flags"]
    found = {f"{info['local']}/{info['prefixlen']}" for info in link["addr_info"] if info["scope"] == "global"}
    assert found == {"10.7.0.2/24", "10.7.0.3/24", "2001:db8:7::2/64"}
    assert "default via 10.8.0.1 dev eth7" in output("ip -4 route")
    assert "default via fe80::1 dev eth7" in output("ip -6 route")
    assert output("cat /etc/resolv.conf; hostname") == "nameserver 192.0.2.53\nvisitor\n"


def test_the_guests_names_come_before_the_hosts(output: Callable[..., str]) -> None:
    own = (addresses.parse("10.7.0.2"), ("visitor.example", "visitor"))
    text = output("cat /etc/hosts; getent hosts visitor", replace(FULL, hosts=(own,)))
    assert text.splitlines()[1] == "10.7.0.2 visitor.example visitor"
    assert Path("/etc/hosts").read_text() in text
    assert text.splitlines()[-1].split() == ["10.7.0.2", "visitor.example", "visitor"]


def test_no_address_is_tentative(output: Callable[..., str]) -> None:
    assert "tentative" not in output("ip -6 address")


def test_the_hosts_own_files_and_name_are_untouched(output: Callable[..., str]) -> None:
    before = Path("/etc/resolv.conf").read_bytes(), os.uname().nodename, Path("/proc/self/mounts").read_bytes()
    output("true")
    assert (
        Path("/etc/resolv.conf").read_bytes(),
        os.uname().nodename,
        Path("/proc/self/mounts").read_bytes(),
    ) == before


def test_sysfs_shows_the_guests_interfaces_and_still_has_control_groups(output: Callable[..., str]) -> None:
    assert output("ls /sys/class/net").split() == ["eth7", "lo"]
    assert output("ls /sys/fs/cgroup").split() == sorted(os.listdir("/sys/fs/cgroup"))


def test_an_unconfigured_guest_is_left_alone(output: Callable[..., str]) -> None:
    text = output(
        "ip address show dev eth7; ip route; ip address show dev lo", GuestPlan(interface="eth7", configure=False)
    )
    assert "inet 127.0.0.1/8" in text
    assert text.count("inet") == 2  # those of the loopback interface
    assert "state DOWN" in text


def test_a_guest_without_ipv6_has_none_at_all(output: Callable[..., str]) -> None:
    plan = GuestPlan(interface="eth7", ipv6=False, addresses=FULL.addresses[:1])
    assert "inet6" not in output("ip address show dev eth7", plan)


def test_the_status_is_that_of_waitpid() -> None:
    assert run(["sh", "-c", "exit 7"]) == 7
    assert run(["sh", "-c", "kill -TERM $$"]) == -signal.SIGTERM


def test_a_missing_program_is_told_from_one_that_cannot_be_executed(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("")
    headless = tmp_path / "headless"
    headless.write_text("#!/no/such/interpreter\n")
    with pytest.raises(CommandNotFound, match=r"'': command not found"):
        run([""])
    with pytest.raises(CommandNotExecutable, match="is a directory"):
        run([str(tmp_path)])
    for file in (plain, headless):
        file.chmod(0o755)
    with pytest.raises(CommandNotFound, match="no-such-program: command not found"):
        run(["no-such-program"])
    with pytest.raises(CommandNotFound, match="interpreter"):
        run([str(headless)])
    with pytest.raises(CommandNotExecutable, match=r"not a program for this computer; .* #!/bin/sh"):
        run([str(plain)])
    with pytest.raises(CommandNotFound, match=r"curl -s x: command not found; .* one by one.* sh -c 'curl -s x'"):
        run(["curl -s x"])
    with pytest.raises(CommandNotFound, match=r"command not found; it has spaces") as caught:
        run(["two\nlines"])
    assert "\n" not in str(caught.value)
    with pytest.raises(CommandNotFound, match=r"A=1: command not found; .* env A=1 COMMAND"):
        run(["A=1", "env"])
    with pytest.raises(CommandNotFound, match=r"cd: command not found; .* sh -c 'cd \.\.\.'"):
        run(["cd", "/"])
    spaced = tmp_path / "a program"
    spaced.symlink_to("/bin/true")
    assert run([str(spaced)]) == 0
    plain.chmod(0o644)
    with pytest.raises(CommandNotExecutable, match="chmod"):
        run([str(plain)])


def test_an_unsearchable_directory_in_path_does_not_change_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    circle = tmp_path / "circle"  # not even root can search it, like another user's home for an ordinary user
    circle.symlink_to(circle)
    headless = tmp_path / "headless"
    headless.write_text("#!/no/such/interpreter\n")
    headless.chmod(0o755)
    monkeypatch.setenv("PATH", f"{circle}:{os.environ['PATH']}:{tmp_path}")

    with pytest.raises(CommandNotFound, match="no-such-program: command not found; check the name and PATH"):
        run(["no-such-program"])
    with pytest.raises(CommandNotExecutable, match="headless cannot be executed"):
        run(["headless"])
    assert run(["true"]) == 0


def test_an_empty_command_is_refused_before_anything_is_made() -> None:
    with pytest.raises(UsageError, match="needs a command"):
        CommandGuest.fork([], lambda: (FULL, None))


def test_results_and_exceptions_of_prepare_reach_the_parent() -> None:
    async def ready(prepare: Callable[[], tuple[GuestPlan, Any]]) -> ReadyGuest[Any]:
        with CommandGuest.fork(["true"], prepare) as guest:
            made: ReadyGuest[Any] = await guest.ready()
            os.close(made.tap)
            return made

    def fail() -> tuple[GuestPlan, None]:
        raise HostError("nothing here")

    class Local(Exception):
        """Cannot be pickled."""

    def fail_oddly() -> tuple[GuestPlan, None]:
        raise Local("odd")

    made = trio.run(ready, lambda: (GuestPlan(mtu=1400), {"a": 1}))
    assert (made.prepared, made.link.mtu, made.warnings) == ({"a": 1}, 1400, ())
    with pytest.raises(HostError, match="nothing here"):
        trio.run(ready, fail)
    with pytest.raises(GuestError, match="Local: odd"):
        trio.run(ready, fail_oddly)


def test_an_impossible_plan_is_one_sentence() -> None:
    with pytest.raises(GuestError, match="MTU 65530"):
        run(["true"], GuestPlan(mtu=65530))
    with pytest.raises(GuestError, match=r"cannot have the address ff02::5/64"):
        run(["true"], GuestPlan(addresses=(InterfaceAddress(addresses.parse("ff02::5"), 64),)))


def test_a_container_without_the_tun_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", "/dev/net/tun")

    monkeypatch.setattr("sansnet_trio.guest.interface.open_tap", refuse)
    with pytest.raises(GuestError, match="--device /dev/net/tun"):
        run(["true"])


def test_close_kills_the_processes_that_remain_in_the_namespace(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    left: list[Path] = []

    async def main() -> None:
        with CommandGuest.fork(["sh", "-c", f"sleep 60 & echo $! >{file}"], lambda: (GuestPlan(), None)) as guest:
            ready = await guest.ready()
            os.close(ready.tap)
            guest.start()
            assert await guest.wait() == 0
            left.append(Path(f"/proc/{outside(os.getpid(), int(file.read_text()))}"))
            assert left[0].exists()

    trio.run(main)
    assert not left[0].exists()


def test_a_route_that_cannot_be_added_is_a_warning() -> None:
    async def main() -> tuple[str, ...]:
        lost = Route(destination=bytes(4), prefix_length=0, gateway=addresses.parse("192.0.2.1"))
        with CommandGuest.fork(["true"], lambda: (GuestPlan(routes=(lost,)), None)) as guest:
            ready = await guest.ready()
            os.close(ready.tap)
            return ready.warnings

    assert trio.run(main) == ("the route to 0.0.0.0/0 could not be copied to the guest",)


def test_a_closed_guest_leaves_no_process_and_no_descriptor() -> None:
    async def main() -> int:
        with CommandGuest.fork(["sleep", "60"], lambda: (GuestPlan(), None)) as guest:
            ready = await guest.ready()
            os.close(ready.tap)
            guest.start()
        guest.close()
        return guest.pid

    before = os.listdir("/proc/self/fd")
    assert not Path(f"/proc/{trio.run(main)}").exists()
    assert os.listdir("/proc/self/fd") == before


def test_a_signal_before_the_start_ends_it() -> None:
    async def main() -> int:
        with CommandGuest.fork(["sleep", "60"], lambda: (GuestPlan(), None)) as guest:
            ready = await guest.ready()
            os.close(ready.tap)
            guest.send_signal(signal.SIGTERM)
            with pytest.raises(EOFError), trio.fail_after(5):
                await guest.ready()
            return await guest.wait()

    assert trio.run(main) == -signal.SIGTERM


def test_handlers_and_ignored_signals_of_python_are_not_the_commands(output: Callable[..., str]) -> None:
    text = output("grep -E '^Sig(Ign|Blk)' /proc/self/status")
    assert text.split() == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]
