"""How commands load trio: `sansnet_cli.process.loop`."""

from __future__ import annotations

import subprocess
import sys

from sansnet_cli.process.loop import UNUSED

BEGIN = "import sansnet_cli.main, sys\nfrom sansnet_cli.process.loop import UNUSED, load_trio\n"


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
        "assert not {*UNUSED, '_ssl', '_hashlib', 'ctypes.util', 'tempfile'} & sys.modules.keys()\n"
        "import ctypes\n"
        "assert not hasattr(ctypes, 'util')\n"
    )


def test_what_is_used_later_is_the_module_itself() -> None:
    run(
        "load_trio()\n"
        "import trio\n"
        "placeholder = trio._ssl._stdlib_ssl\n"
        "assert type(placeholder).__name__ == '_Placeholder'\n"
        "error = placeholder.SSLError\n"
        "import hmac, idna, ssl\n"
        "assert error is ssl.SSLError\n"
        "import ctypes.util\n"
        "assert ctypes.util.find_library('c')\n"
        "async def main():\n"
        "    return await trio.to_thread.run_sync(lambda: 7)\n"
        "assert trio.run(main) == 7\n"
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
        "assert trio._ssl._stdlib_ssl is ssl is sys.modules['ssl']\n"
        "assert sys.modules['ctypes.util'] is ctypes.util\n"
    )


def test_all_of_them_are_imported_by_trio() -> None:
    """A module that trio does not use any more need not be named."""
    run("import trio\nassert {*UNUSED} <= sys.modules.keys()\n")
    assert UNUSED
