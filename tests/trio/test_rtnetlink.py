"""Netlink over a socket of our own, and how the messages of pyroute2 are imported for it."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sansnet_trio.linux.rtnetlink import Netlink
from tests.lab.namespaces import eventually, held_namespace, running

LOOPBACK = 1

MESSAGES = {"common", "netlink", "netlink.exceptions", "netlink.rtnl", "netlink.rtnl.ifaddrmsg", "netlink.rtnl.rtmsg"}
"""Modules of pyroute2 that are needed, without its package."""


def test_addresses_and_routes_are_listed() -> None:
    with Netlink() as netlink:
        found = [message.get_attr("IFA_LOCAL") for message in netlink.addresses(socket.AF_INET)]
        routes = [message.get_attr("RTA_DST") for message in netlink.routes(socket.AF_INET)]
    assert "127.0.0.1" in found
    assert "127.0.0.1" in routes


@pytest.mark.kernel
def test_more_than_one_answers_hold() -> None:
    count = 1000
    with held_namespace() as namespace:
        script = "".join(f"route add 10.{n >> 8}.{n & 255}.0/24 dev lo\n" for n in range(count))
        subprocess.run(namespace.command("ip", "-batch", "-"), input=script, text=True, check=True)

        def destinations() -> list[str]:
            with Netlink() as netlink:
                return [str(message.get_attr("RTA_DST")) for message in netlink.routes(socket.AF_INET)]

        assert len({text for text in namespace.call(destinations) if text.startswith("10.")}) == count


@pytest.mark.kernel
def test_what_is_added_is_there_and_what_is_refused_is_an_error() -> None:
    with held_namespace() as namespace:

        def add() -> int | None:
            with Netlink() as netlink:
                attributes = [("IFA_LOCAL", "10.7.0.2"), ("IFA_ADDRESS", "10.7.0.2")]
                netlink.add_address(socket.AF_INET, attributes, index=LOOPBACK, prefixlen=32)
                with pytest.raises(OSError, match="exists") as caught:
                    netlink.add_address(socket.AF_INET, attributes, index=LOOPBACK, prefixlen=32)
                return caught.value.errno

        assert namespace.call(add) == errno.EEXIST
        assert "10.7.0.2/32" in namespace.shell("ip address show dev lo").stdout


IMPORT = """
import sys
from sansnet_trio.linux.rtnetlink import Netlink, load_alone
def use_all():
    import pyroute2
    import pyroute2.netlink.rtnl.rtmsg
    with pyroute2.IPRoute() as whole:
        assert [link for link in whole.get_links() if link["index"] == 1]
    assert pyroute2.netlink.rtnl.rtmsg.rtmsg
def is_imported():
    return any(name.partition(".")[0] == "pyroute2" for name in sys.modules)
"""


def succeeds(program: str) -> bool:
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return True


def test_the_library_imports_pyroute2_in_the_ordinary_way() -> None:
    assert succeeds(
        f"""{IMPORT}
with Netlink() as netlink:
    assert netlink.addresses(2)
    import pyroute2.netlink.rtnl.rtmsg
    assert type(netlink.routes(2)[0]) is pyroute2.netlink.rtnl.rtmsg.rtmsg
use_all()
"""
    )


@pytest.mark.parametrize("before", ["", "use_all()\n"], ids=["first", "second"])
def test_messages_that_are_loaded_alone_leave_no_module(before: str) -> None:
    assert succeeds(
        f"""{IMPORT}{before}
load_alone()
with Netlink() as netlink:
    assert netlink.addresses(2)
assert is_imported() == bool({before!r})
use_all()
"""
    )


@pytest.mark.parametrize("start", ["threading.Thread(target=work).start()", "_thread.start_new_thread(work, ())"])
def test_with_another_thread_nothing_stands_in_for_pyroute2(start: str) -> None:
    assert succeeds(
        f"""{IMPORT}
import _thread, threading
end = threading.Event()
def work():
    end.wait()
{start}
load_alone()
assert is_imported()
use_all()
end.set()
"""
    )


@pytest.mark.parametrize("call", ["sansnet_trio.read_host()", "load_alone()"])
def test_other_threads_import_pyroute2_meanwhile(call: str) -> None:
    """The other thread begins to import it when the first of its modules is being found for us."""
    assert succeeds(
        f"""{IMPORT}
import threading
import sansnet_trio
import sansnet_trio.hostinfo
begun = threading.Event()
done = threading.Event()
class Finder:
    def find_spec(self, name, path, target=None):
        if name.startswith("pyroute2.") and not begun.is_set():
            begun.set()
            done.wait(0.5)
sys.meta_path.insert(0, Finder())
problems = []
def other():
    begun.wait()
    try:
        use_all()
    except BaseException as error:
        problems.append(repr(error))
    done.set()
thread = threading.Thread(target=other)
thread.start()
{call}
begun.set()
thread.join()
assert not problems, problems
use_all()
"""
    )


def test_a_child_is_started_while_another_thread_imports_pyroute2() -> None:
    assert succeeds(
        f"""{IMPORT}
import threading, time
from sansnet_trio.guest.child import start_child
from sansnet_trio.linux.children import end_child
from tests.trio.children import count_addresses
begun = threading.Event()
class Finder:
    def find_spec(self, name, path, target=None):
        if name.startswith("pyroute2.") and not begun.is_set():
            begun.set()
            time.sleep(0.5)
sys.meta_path.insert(0, Finder())
thread = threading.Thread(target=use_all)
thread.start()
begun.wait()
pid, channel = start_child(count_addresses)
try:
    assert channel.receive_with_descriptors()[0]
finally:
    channel.close()
    end_child(pid)
thread.join()
"""
    )


def imported(report: str) -> set[str]:
    """Names of pyroute2's modules in a report of `python -X importtime`."""
    names = {line.rpartition("|")[2].strip() for line in report.splitlines() if line.startswith("import time:")}
    return {name.removeprefix("pyroute2.") for name in names if name.partition(".")[0] == "pyroute2"}


SANSNET = [sys.executable, "-X", "importtime", "-m", "sansnet_cli"]


@pytest.mark.kernel
def test_a_command_starts_without_the_whole_of_pyroute2() -> None:
    done = subprocess.run([*SANSNET, "run", "--", "true"], capture_output=True, text=True, timeout=60, check=True)
    assert imported(done.stderr) == MESSAGES


@pytest.mark.kernel
def test_an_attached_guest_gets_its_interface_without_the_whole_of_pyroute2(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with held_namespace() as namespace, open(tmp_path / "report", "w") as report:
        command = [*SANSNET, "attach", "--pid", str(pid), str(namespace.pid)]
        with running(command, stderr=report, stdin=subprocess.DEVNULL):
            assert eventually(lambda: pid.exists() and bool(pid.read_text()), seconds=60)
    assert imported((tmp_path / "report").read_text()) == MESSAGES


@pytest.mark.kernel
def test_a_machines_network_is_ready_without_the_whole_of_pyroute2(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with open(tmp_path / "report", "w") as report:
        command = [*SANSNET, "serve", "--socket", str(tmp_path / "socket"), "--pid", str(pid)]
        with running(command, stderr=report, stdin=subprocess.DEVNULL):
            assert eventually(lambda: pid.exists() and bool(pid.read_text()), seconds=60)
    assert imported((tmp_path / "report").read_text()) == MESSAGES
