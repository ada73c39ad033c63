"""How commands load trio: `sansnet_cli.process.loop`."""

from __future__ import annotations

import subprocess
import sys

from trio._core import _ki

from sansnet_cli.process.loop import UNUSED

NOT_LOADED = {*UNUSED} - ({"inspect"} if hasattr(_ki, "inspect") else set())
"""Older versions of trio, such as 0.27, use `inspect` while they are loaded."""

BEGIN = f"import sansnet_cli.main, sys\nfrom sansnet_cli.process.loop import load_trio\nNOT_LOADED = {NOT_LOADED}\n"


def run(program: str) -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", BEGIN + program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_process_is_started_and_nothing_unused_is_loaded() -> None:
    run(
        "events = []\n"
        "starts = ('subprocess.Popen', 'os.posix_spawn', 'os.exec', 'os.fork', 'os.system')\n"
        "sys.addaudithook(lambda event, _: events.append(event) if event in starts else None)\n"
        "load_trio()\n"
        "assert not events, events\n"
        "assert not {*NOT_LOADED, '_ssl', '_hashlib', 'ctypes.util', 'tempfile'} & sys.modules.keys()\n"
        "import ctypes\n"
        "assert not hasattr(ctypes, 'util')\n"
    )


def test_what_is_used_later_is_the_module_itself() -> None:
    run(
        "load_trio()\n"
        "import trio\n"
        "placeholder = trio._highlevel_ssl_helpers.ssl\n"
        "assert type(placeholder).__name__ == '_Placeholder'\n"
        "error = placeholder.SSLError\n"
        "import attr.validators, hmac, idna, inspect, platform, ssl, trio._path, trio._ssl\n"
        "assert error is ssl.SSLError\n"
        "assert attr.validators.instance_of(int).type is int\n"
        "assert inspect.getcoroutinestate and platform.python_version and trio._path.Path and trio._ssl.SSLStream\n"
        "import ctypes.util\n"
        "assert ctypes.util.find_library('c')\n"
        "async def main():\n"
        "    return await trio.to_thread.run_sync(lambda: 7)\n"
        "assert trio.run(main) == 7\n"
    )


def test_outcomes_check_their_exceptions() -> None:
    """As by the validator of attrs that the placeholder stands for."""
    run(
        "load_trio()\n"
        "import outcome\n"
        "assert outcome.Error(KeyError(1)).error.args == (1,)\n"
        "try:\n"
        "    outcome.Error(1)\n"
        "except TypeError as error:\n"
        "    assert 'BaseException' in str(error), error\n"
        "else:\n"
        "    raise AssertionError\n"
    )


def test_locks_and_threads_need_no_further_module() -> None:
    run(
        "load_trio()\n"
        "import trio\n"
        "async def hold(lock, task_status):\n"
        "    async with lock:\n"
        "        task_status.started()\n"
        "        await trio.sleep(0)\n"
        "async def main():\n"
        "    lock = trio.Lock()\n"
        "    async with trio.open_nursery() as nursery:\n"
        "        await nursery.start(hold, lock)\n"
        "        async with lock:\n"
        "            pass\n"
        "    loaded = set(sys.modules)\n"
        "    try:\n"
        "        await trio.to_thread.run_sync(trio.sleep, 0)\n"
        "    except TypeError as error:\n"
        "        assert 'synchronous' in str(error), error\n"
        "    assert await trio.to_thread.run_sync(trio.from_thread.run_sync, lambda: 7) == 7\n"
        "    assert loaded == set(sys.modules)\n"
        "trio.run(main)\n"
        "assert not NOT_LOADED & sys.modules.keys()\n"
    )


def test_threads_of_trio_have_names() -> None:
    """As with an ordinary import of trio, if the C library has the call."""
    run(
        "load_trio()\n"
        "import trio\n"
        "def name():\n"
        "    with open('/proc/thread-self/comm') as file:\n"
        "        return file.read()\n"
        "async def main():\n"
        "    return await trio.to_thread.run_sync(name)\n"
        "assert trio.run(main).startswith('name from') or trio._core._thread_cache.set_os_thread_name is None\n"
    )


def test_modules_that_are_loaded_already_stay() -> None:
    run(
        "import ssl, ctypes.util\n"
        "load_trio()\n"
        "import trio\n"
        "assert trio._highlevel_ssl_helpers.ssl is ssl is sys.modules['ssl']\n"
        "assert sys.modules['ctypes.util'] is ctypes.util\n"
    )


def test_all_of_them_are_imported_by_trio() -> None:
    """A module that trio does not use any more need not be named."""
    run(f"import trio\nassert {set(UNUSED)} <= sys.modules.keys()\n")
    assert UNUSED
