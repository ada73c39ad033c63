"""Watching the host's network for changes."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from sansnet_trio import host_watch
from sansnet_trio.host_watch import HostWatch
from sansnet_trio.linux import syscalls
from tests.lab.namespaces import Namespace, held_namespace

SOON = 5.0
NEVER = 0.6


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_watch, "_MIN_PAUSE", 0.01)
    monkeypatch.setattr(host_watch, "_BURST_GAP", 0.02)


def reports(watch: HostWatch, change: Callable[[], object], seconds: float = SOON) -> bool | None:
    """The report of a watch after a change; None without a report."""

    async def main() -> bool | None:
        found = None
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:

                async def wait() -> None:
                    nonlocal found
                    found = await watch.wait()

                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked(0.02)
                change()
        return found

    return trio.run(main)


def renamed_over(file: Path, text: str) -> None:
    new = file.with_name("new")
    new.write_text(text)
    new.rename(file)


def test_a_file_is_watched_however_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("one")
    with HostWatch([str(file)]) as watch:
        assert reports(watch, lambda: file.write_text("two")) is True
        assert reports(watch, lambda: renamed_over(file, "three")) is True
        assert reports(watch, lambda: file.write_text("four")) is True
        assert reports(watch, file.unlink) is True
        assert reports(watch, lambda: file.write_text("five")) is True


def test_other_files_of_its_directory_do_not_matter(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("one")
    with HostWatch([str(file)]) as watch:
        assert reports(watch, lambda: (tmp_path / "other").write_text("two"), NEVER) is None
        assert reports(watch, file.read_text, NEVER) is None


def test_another_path_to_the_file_does_not_hide_a_change(tmp_path: Path) -> None:
    """For example a mount at the path of the file."""
    there, here = tmp_path / "there", tmp_path / "here"
    for directory in (there, here):
        directory.mkdir()
    (there / "file").write_text("one")
    (here / "resolv.conf").hardlink_to(there / "file")
    with HostWatch([str(here / "resolv.conf")]) as watch:
        assert reports(watch, lambda: (there / "file").write_text("two")) is True


def test_each_step_of_symbolic_links_is_watched(tmp_path: Path) -> None:
    link, run = tmp_path / "resolv.conf", tmp_path / "run"
    link.symlink_to("run/middle")
    run.mkdir()
    (run / "middle").symlink_to(run / "deep" / "stub")
    with HostWatch([str(link)]) as watch:
        assert reports(watch, (run / "deep").mkdir) is True
        assert reports(watch, lambda: (run / "deep" / "stub").write_text("one")) is True
        assert reports(watch, lambda: renamed_over(run / "deep" / "stub", "two")) is True

        def lead_elsewhere() -> None:
            (run / "middle").unlink()
            (run / "middle").symlink_to(tmp_path / "other")

        assert reports(watch, lead_elsewhere) is True
        assert reports(watch, lambda: (run / "deep" / "stub").write_text("three"), NEVER) is None
        assert reports(watch, lambda: (tmp_path / "other").write_text("four")) is True


def test_symbolic_links_may_form_a_loop(tmp_path: Path) -> None:
    link = tmp_path / "resolv.conf"
    link.symlink_to(link)
    with HostWatch([str(link)]) as watch:
        assert reports(watch, link.unlink) is True


@pytest.mark.parametrize("failing", ["inotify_new", "inotify_add"])
def test_without_watches_files_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(syscalls, failing, refuse)
    monkeypatch.setattr(host_watch, "_POLL_INTERVAL", 0.05)
    file = tmp_path / "resolv.conf"
    file.write_text("one")
    with HostWatch([str(file)]) as watch:
        assert reports(watch, lambda: renamed_over(file, "two")) is True
        assert reports(watch, lambda: None, NEVER) is None
        assert reports(watch, file.unlink) is True


def test_closing_leaves_no_descriptor(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    watch = HostWatch([str(tmp_path / "resolv.conf")])
    watch.close()
    watch.close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def host() -> Iterator[Namespace]:
    with held_namespace() as namespace:
        namespace.shell(
            """
            ip link add one type veth peer name two
            ip link set two up
            ip link set one up
            ip address add 192.0.2.1/24 dev one
            """
        )
        yield namespace


@pytest.mark.kernel
@pytest.mark.parametrize(
    "change",
    [
        "ip address add 192.0.2.2/24 dev one",
        "ip -6 address add 2001:db8::1/64 dev one nodad",
        "ip route add default via 192.0.2.9",
        "ip link set one down",
    ],
)
def test_links_addresses_and_routes_are_watched(host: Namespace, change: str) -> None:
    with host.call(lambda: HostWatch([])) as watch:
        assert reports(watch, lambda: host.shell(change)) is False


@pytest.mark.kernel
def test_messages_that_the_kernel_drops_are_a_change(host: Namespace) -> None:
    batch = "".join(f"route {what} 192.0.2.{n}/32 dev one\n" for n in range(9, 250) for what in ("add", "delete"))
    with host.call(lambda: HostWatch([])) as watch:
        watch._netlink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        assert reports(watch, lambda: host.run("ip", "-batch", "-", input=batch)) is False
        assert reports(watch, lambda: None, NEVER) is None


@pytest.mark.kernel
def test_a_pause_is_longer_when_reading_takes_long(host: Namespace) -> None:
    async def main() -> float:
        with host.call(lambda: HostWatch([])) as watch:
            host.shell("ip address add 192.0.2.2/24 dev one")
            await watch.wait()
            host.shell("ip address add 192.0.2.3/24 dev one")
            await trio.sleep(0.1)  # the time to read everything
            began = trio.current_time()
            await watch.wait()
            return trio.current_time() - began

    assert trio.run(main) > 0.5
