"""How commands load modules of Python's library: `sansnet_cli.process.library`."""

from __future__ import annotations

import subprocess
import sys

BEGIN = "import sys\nfrom sansnet_cli.process.library import load_argparse, load_socket\n"


def run(program: str) -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", BEGIN + program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_socket_needs_no_selectors() -> None:
    run(
        "load_socket()\n"
        "import os, socket\n"
        "assert 'selectors' not in sys.modules\n"
        "ours, theirs = socket.socketpair()\n"
        "with ours, theirs, open(os.memfd_create('file'), 'w+b') as file:\n"
        "    file.write(b'sent')\n"
        "    file.flush()\n"
        "    ours.setblocking(True)\n"
        "    assert ours.sendfile(file, 1) == 3\n"
        "    assert theirs.recv(10) == b'ent'\n"
        "import selectors\n"
        "assert socket.selectors.PollSelector is selectors.PollSelector\n"
    )


def test_messages_of_argparse_are_not_translated() -> None:
    run(
        "load_argparse()\n"
        "import argparse\n"
        "assert 'gettext' not in sys.modules\n"
        "made = argparse.ArgumentParser(exit_on_error=False)\n"
        "made.add_argument('--one', nargs=1)\n"
        "made.add_argument('--two', nargs=2)\n"
        "for option, message in (('--one', 'expected 1 argument'), ('--two', 'expected 2 arguments')):\n"
        "    try:\n"
        "        made.parse_args([option])\n"
        "    except argparse.ArgumentError as error:\n"
        "        assert error.message == message, error.message\n"
        "    else:\n"
        "        raise AssertionError(option)\n"
        "assert 'gettext' not in sys.modules\n"
        "import gettext\n"
        "assert gettext.translation\n"
    )
