"""How the messages of pyroute2 are imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.namespaces import eventually, held_namespace, running

IMPORT = """
import sys
from sansnet_trio.linux import netlink_messages
from sansnet_trio.linux.rtnetlink import Netlink
def use_all():
    import pyroute2
    import pyroute2.netlink.rtnl.rtmsg
    with pyroute2.IPRoute() as whole:
        assert [link for link in whole.get_links() if link["index"] == 1]
    assert pyroute2.netlink.rtnl.rtmsg.rtmsg
def is_imported():
    return any(name.partition(".")[0] == "pyroute2" for name in sys.modules)
def use_ours():
    with Netlink() as netlink:
        assert netlink.addresses(2)
"""


def succeeds(program: str) -> bool:
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return True


@pytest.mark.parametrize("before", ["", "use_all()\n"], ids=["first", "second"])
def test_messages_leave_no_module_of_pyroute2(before: str) -> None:
    assert succeeds(f"{IMPORT}{before}use_ours()\nassert is_imported() == bool({before!r})\nuse_all()\nuse_ours()\n")


def test_messages_log_with_the_module_itself() -> None:
    """pyroute2 gets a logger that loads `logging` at its first use."""
    assert succeeds(
        f"""{IMPORT}
assert "logging" not in sys.modules
messages = netlink_messages.load()
assert not {{"logging", "traceback"}} & sys.modules.keys()
names = messages.route.decode.__globals__
import logging
records = []
handler = logging.Handler()
handler.emit = records.append
logging.getLogger("pyroute2").addHandler(handler)
names["log"].warning(names["traceback"].format_stack()[-1])
[record] = records
assert record.name == "pyroute2.netlink" and "<string>" in record.getMessage()
assert names["logging"].Handler is logging.Handler
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
use_ours()
assert is_imported()
use_all()
end.set()
"""
    )


@pytest.mark.parametrize("call", ["sansnet_trio.hostinfo.read_host()", "netlink_messages.load()"])
def test_other_threads_import_pyroute2_meanwhile(call: str) -> None:
    """The other thread begins to import it when the first of its modules is being found for us."""
    assert succeeds(
        f"""{IMPORT}
import threading
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


MESSAGES = {"common", "netlink", "netlink.exceptions", "netlink.rtnl", "netlink.rtnl.ifaddrmsg", "netlink.rtnl.rtmsg"}
"""Modules of pyroute2 that are needed, without its package."""


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
