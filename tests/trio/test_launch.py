"""Children of a process with several threads. Each test is a process of its own, in which every warning is an error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent.parent

THREAD: Final = """
import threading
ended = threading.Event()
threading.Thread(target=ended.wait, daemon=True).start()
"""

START: Final = """
import functools, os, sys
from sansnet_core import SansnetError
from sansnet_trio.guest.child import start_child
from sansnet_trio.linux.children import end_child
from tests.trio import children
def result(work, descriptors=()):
    pid, channel = start_child(work, descriptors)
    try:
        return pid, channel.receive_with_descriptors()[0]
    finally:
        channel.close()
        end_child(pid)
        assert not os.path.exists(f"/proc/{pid}")
def problem(work):
    try:
        result(work)
    except (SansnetError, LookupError) as error:
        return str(error)
"""


def run(script: str) -> None:
    command = [sys.executable, "-W", "error", "-c", START + script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_has_our_path_and_the_descriptors_that_it_needs() -> None:
    run(
        THREAD
        + """
sys.path.append("/nowhere")
reader, writer = os.pipe()
os.write(writer, b"hello")
pid, (path, own, is_child, alone, data) = result(functools.partial(children.describe, reader), [reader])
assert (path, own, is_child, alone, data) == (sys.path, pid, True, True, b"hello")
"""
    )


def test_it_has_our_mode_of_the_sandbox() -> None:
    run(
        THREAD
        + """
from sansnet_trio.sandbox import Mode, choose
for mode in Mode:
    choose(mode)
    assert result(children.mode_of_the_sandbox)[1] == mode
"""
    )


def test_nothing_is_forked_in_a_process_with_threads() -> None:
    run(
        THREAD
        + """
def fork():
    raise AssertionError
os.fork = fork
result(children.count_addresses)
"""
    )


def test_a_process_with_one_thread_forks() -> None:
    run(
        """
def work(channel, parent):
    channel.send("forked")
assert result(work)[1] == "forked"
"""
    )


def test_an_exception_is_raised_in_the_parent() -> None:
    run(THREAD + "assert problem(children.fail) == 'lost'")


def test_work_that_cannot_be_sent_to_it_is_one_sentence() -> None:
    run(
        THREAD
        + """
def in_main(channel, parent): ...
for work in (lambda channel, parent: None, in_main, functools.partial(children.describe, sys.stdin)):
    text = problem(work)
    assert text.startswith("this program has several threads, so a new process prepares the guest; give it a"), text
    assert len(text) < 300 and "\\n" not in text, text
"""
    )


AGENTS: Final = """
import os, signal, socket, sys, time, trio
from sansnet_trio.guest.socket_agent import NoAgent, SocketAgents
make = socket.AF_INET, socket.SOCK_STREAM
async def beat(gaps):
    last = time.monotonic()
    while True:
        await trio.sleep(0.01)
        now = time.monotonic()
        gaps.append(now - last)
        last = now
"""


def test_a_socket_agent_that_fails_is_replaced_without_waiting_for_it(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import time; time.sleep(2)")
    run(
        THREAD
        + AGENTS
        + f"""
async def main():
    agents = SocketAgents(children.nothing)
    await agents.begin()
    os.environ["PYTHONPATH"] = {str(tmp_path)!r}
    os.kill(agents._agent.pid, signal.SIGKILL)
    os.waitid(os.P_PID, agents._agent.pid, os.WEXITED | os.WNOWAIT)
    failed, gaps, began = 0, [], time.monotonic()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat, gaps)
        while True:
            try:
                agents.socket(*make).close()
                break
            except NoAgent:
                failed += 1
                await trio.sleep(0.02)
        nursery.cancel_scope.cancel()
    assert failed and time.monotonic() - began > 2
    assert max(gaps) < 1.5, max(gaps)
    agents.close()
trio.run(main)
"""
    )


def test_several_tasks_wait_for_one_socket_agent() -> None:
    run(
        THREAD
        + AGENTS
        + """
async def main():
    agents = SocketAgents(children.nothing)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(agents.begin)
    agents.socket(*make).close()
    agents.close()
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return  # there is no other agent
    raise AssertionError
trio.run(main)
"""
    )
