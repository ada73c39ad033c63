"""Existing network namespaces: finding them, and noticing when they are gone."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import pytest
import trio

from sansnet_trio.guest.attached import AttachedGuest
from sansnet_trio.guest.errors import GuestError
from sansnet_trio.guest.plan import GuestPlan
from sansnet_trio.guest.target import ExistingNamespace
from tests.lab.namespaces import Namespace, held_namespace, running
from tests.trio.test_socket_agent import check_hidden

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("one_thread")]

SOON: Final = 2.0
"""Seconds within which an end is noticed; files that must be checked are checked every second."""


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with held_namespace() as made:
        yield made


@contextmanager
def bound(namespace: Namespace, file: Path) -> Iterator[None]:
    """Bind-mount the namespace over a file for a block, unless it is unmounted before."""
    file.touch()
    subprocess.run(["mount", "--bind", f"/proc/{namespace.pid}/ns/net", str(file)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(file)], check=False, capture_output=True)


def unbind(file: Path) -> None:
    subprocess.run(["umount", "--lazy", str(file)], check=True)
    file.unlink()


def is_gone(existing: ExistingNamespace, seconds: float) -> bool:
    async def main() -> bool:
        with trio.move_on_after(seconds):
            await existing.wait_gone()
            return True
        return False

    return trio.run(main)


def test_it_is_gone_when_its_process_ends() -> None:
    with held_namespace() as namespace, closing(ExistingNamespace.of_process(namespace.pid)) as existing:
        assert not is_gone(existing, 0.1)
        os.kill(namespace.pid, 9)
        assert is_gone(existing, SOON)


def test_it_is_gone_when_its_file_is_deleted(namespace: Namespace, tmp_path: Path) -> None:
    file = tmp_path / "netns"
    with bound(namespace, file), closing(ExistingNamespace.named(str(file))) as existing:
        (tmp_path / "other").touch()
        (tmp_path / "other").unlink()
        assert not is_gone(existing, 0.1)
        unbind(file)
        assert is_gone(existing, SOON)


def test_a_deletion_while_it_waits_is_noticed_at_once(namespace: Namespace, tmp_path: Path) -> None:
    file = tmp_path / "netns"

    async def main(existing: ExistingNamespace) -> None:
        with trio.fail_after(0.5):  # less than the interval between checks
            async with trio.open_nursery() as nursery:
                nursery.start_soon(existing.wait_gone)
                await trio.sleep(0.05)
                unbind(file)

    with bound(namespace, file), closing(ExistingNamespace.named(str(file))) as existing:
        trio.run(main, existing)


def test_it_is_gone_when_its_directory_is_gone(namespace: Namespace, tmp_path: Path) -> None:
    directory = tmp_path / "directory"
    directory.mkdir()
    with bound(namespace, directory / "netns"), closing(ExistingNamespace.named(str(directory / "netns"))) as existing:
        unbind(directory / "netns")
        directory.rmdir()
        assert is_gone(existing, SOON)


def test_another_namespace_in_its_place_is_not_it(namespace: Namespace, tmp_path: Path) -> None:
    file = tmp_path / "netns"
    with bound(namespace, file), closing(ExistingNamespace.named(str(file))) as existing:
        unbind(file)
        with held_namespace() as other, bound(other, file):
            assert is_gone(existing, SOON)


def test_a_symbolic_link_is_followed_to_the_process(tmp_path: Path) -> None:
    link = tmp_path / "link"
    with held_namespace() as namespace:
        (tmp_path / "farther").symlink_to(f"/proc/{namespace.pid}/ns/net")
        link.symlink_to("farther")
        with closing(ExistingNamespace.named(str(link))) as existing:
            assert not is_gone(existing, 0.1)
            os.kill(namespace.pid, 9)
            assert is_gone(existing, SOON)


def test_other_files_in_proc_are_checked_every_second() -> None:
    with (
        held_namespace() as namespace,
        closing(ExistingNamespace.named(f"/proc/{namespace.pid}/task/{namespace.pid}/ns/net")) as existing,
    ):
        assert not is_gone(existing, 0.1)
        os.kill(namespace.pid, 9)
        assert is_gone(existing, SOON)


def test_a_descriptor_of_another_process_names_a_namespace_too(namespace: Namespace) -> None:
    with (
        open(f"/proc/{namespace.pid}/ns/net") as file,
        running(["sleep", "60"], pass_fds=[file.fileno()]) as holder,
        closing(ExistingNamespace.named(f"/proc/{holder.pid}/fd/{file.fileno()}")) as existing,
    ):
        assert not is_gone(existing, 0.1)
        holder.kill()
        holder.wait()
        assert is_gone(existing, SOON)


@pytest.mark.parametrize("end", ["its file", "the process"])
def test_a_file_that_only_a_process_sees(namespace: Namespace, tmp_path: Path, end: str) -> None:
    """It is gone with the file or the process; the kernel does not report mounts that end with their process."""
    script = "mount -t tmpfs none $1; touch $1/netns; mount --bind /proc/$2/ns/net $1/netns; echo made; exec sleep 60"
    line = ["unshare", "--mount", "sh", "-ec", script, "sh", str(tmp_path), str(namespace.pid)]
    with running(line, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "made\n"
        with closing(ExistingNamespace.named(f"/proc/{owner.pid}/root{tmp_path}/netns")) as existing:
            assert not is_gone(existing, 1.2)
            if end == "the process":
                owner.kill()
                owner.wait()
            else:
                enter = ["nsenter", f"--target={owner.pid}", "--mount", "--", "sh", "-ec"]
                subprocess.run([*enter, 'umount --lazy "$1"; rm "$1"', "sh", str(tmp_path / "netns")], check=True)
            assert is_gone(existing, SOON)


def test_a_relative_name_is_the_same_file_from_everywhere(
    namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with bound(namespace, tmp_path / "netns"), closing(ExistingNamespace.named("./netns")) as existing:
        monkeypatch.chdir("/")
        assert not is_gone(existing, 0.1)


def test_files_without_a_watch_are_checked(
    namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(28, "no watches are left")

    monkeypatch.setattr("sansnet_trio.linux.syscalls.inotify", refuse)
    file = tmp_path / "netns"
    with bound(namespace, file), closing(ExistingNamespace.named(str(file))) as existing:
        assert not is_gone(existing, 0.1)
        unbind(file)
        assert is_gone(existing, SOON)


def test_a_missing_or_wrong_file_is_one_sentence(namespace: Namespace, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(GuestError, match=r"there is no process 999999999; give"):
        ExistingNamespace.of_process(999999999)
    with pytest.raises(GuestError, match=r"there is no network namespace 'nobody'; `ip netns`"):
        ExistingNamespace.named("nobody")
    with pytest.raises(GuestError, match=r"there is no file .*/missing; give"):
        ExistingNamespace.named(str(tmp_path / "missing"))
    with pytest.raises(GuestError, match=r"/file is not a network namespace; give"):
        ExistingNamespace.named(str(tmp_path / "file"))
    with pytest.raises(GuestError, match=r"/ns/net is not a user namespace; give"):
        ExistingNamespace.named(f"/proc/{namespace.pid}/ns/net", f"/proc/{namespace.pid}/ns/net")
    with pytest.raises(GuestError, match="is the network that sansnet itself is in; give the guest's"):
        ExistingNamespace.of_process(os.getpid())


def test_failures_leave_no_descriptor(namespace: Namespace) -> None:
    before = os.listdir("/proc/self/fd")
    for network, user in (
        ("/proc/self/ns/net", None),
        (f"/proc/{namespace.pid}/ns/net", "/proc/self/ns/net"),
        ("/proc/self/ns/user", None),
    ):
        with pytest.raises(GuestError):
            ExistingNamespace(network, user)
    ExistingNamespace.of_process(namespace.pid).close()
    assert os.listdir("/proc/self/fd") == before


def test_processes_that_enter_it_cannot_be_traced(namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    enter = ExistingNamespace.join

    def join(self: ExistingNamespace) -> None:
        check_hidden()
        enter(self)

    monkeypatch.setattr(ExistingNamespace, "join", join)

    async def main() -> None:
        with AttachedGuest.fork(ExistingNamespace.of_process(namespace.pid), lambda: (GuestPlan(), None)) as guest:
            ready = await guest.ready()
            os.close(ready.tap)

    trio.run(main)
