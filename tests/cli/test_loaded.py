"""The modules that each command has loaded at the moments that a user waits for, against `loaded.toml`.

Every module costs time and memory in each start of a command, and most in each of its processes. A module that creeps
in fails here by its name. Of the standard library and other packages only the names of packages are listed, without
those that Python loads itself, since versions of Python divide them in other ways.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Final

import pytest

LIST: Final = Path(__file__).parent / "loaded.toml"
LISTED: Final[dict[str, list[str]]] = tomllib.loads(LIST.read_text())

BEGIN: Final = "import sansnet_cli.main, sansnet_cli.dispatch\n"
SERVE: Final = "from sansnet_cli.process.loading import load\nload(parse({words!r}), 'sansnet_cli.{command}.serve')\n"

PROGRAMS: Final = {
    "version": "import sys\nsys.argv = ['sansnet', '--version']\nfrom sansnet_cli.main import main\nmain()\n",
    "run": f"{BEGIN}from sansnet_cli.run.command import parse\nparse(['true'])\nimport sansnet_cli.run.start\n",
    "attach": f"{BEGIN}from sansnet_cli.attach.command import parse\nparse(['--background', '1'])\n"
    "import sansnet_cli.attach.start, sansnet_cli.process.daemon, sansnet_trio.guest.target\n",
    "pasta": f"{BEGIN}from sansnet_cli.compat import main, launch, request, parsed_options\n"
    "request.read(parsed_options.ParsedOptions('pasta', ['--config-net', '1']))\n"
    "import sansnet_cli.attach.start, sansnet_cli.process.daemon, sansnet_trio.guest.target\n",
    "serve": f"{BEGIN}from sansnet_cli.serve.command import parse\nparse(['--background', '--socket', '/s'])\n"
    "import sansnet_cli.process.daemon\n",
}
"""Moment -> a program that has loaded what the command has: for `version` the answer, for the others the moment when
the guest is prepared, which is before the caller goes on."""
PROGRAMS_THAT_SERVE: Final = {
    "run": PROGRAMS["run"] + SERVE.format(words=["true"], command="run"),
    "attach": PROGRAMS["attach"] + SERVE.format(words=["1"], command="attach"),
    "serve": PROGRAMS["serve"] + SERVE.format(words=["--socket", "/s"], command="serve"),
}
"""Command -> a program that has loaded what the command has before it serves the first frame."""

NEWER: Final = {"annotationlib", "ast", "colorize", "compression", "string"}
"""Modules that later versions of Python load for others that are listed."""


def imported(*arguments: str) -> set[str]:
    """Packages of others, and modules of ours, that a program imports, from `python -X importtime`."""
    done = subprocess.run([sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=True)
    names = re.findall(r"^import time:.*\| *(\S+)$", done.stderr, re.MULTILINE)
    return {folded(name) for name in names if not name.startswith("_")} - {"imported", "package"}


def folded(name: str) -> str:
    top = name.partition(".")[0]
    return name if top.startswith("sansnet") else top


@cache
def pythons_own() -> set[str]:
    return imported("-c", "pass")


def found(program: str) -> set[str]:
    return imported("-c", program) - pythons_own()


def check(moment: str, present: set[str], listed: set[str]) -> None:
    crept = sorted(present - listed - NEWER - pythons_own())
    assert crept == [], (
        f"{moment}: {', '.join(crept)} is loaded, and was not before. Import it in the function that uses it, or use "
        f"something smaller; if every guest needs it, add it to {LIST.name}, and its time to docs/performance.md"
    )
    gone = sorted(name for name in listed - present if name.startswith("sansnet"))
    assert gone == [], f"{moment}: {', '.join(gone)} is not loaded any more; remove it from {LIST.name}"


@pytest.mark.parametrize("moment", PROGRAMS)
def test_before_the_caller_goes_on(moment: str) -> None:
    check(moment, found(PROGRAMS[moment]), set(LISTED[moment]))


@pytest.mark.parametrize("command", PROGRAMS_THAT_SERVE)
def test_before_the_first_frame(command: str) -> None:
    listed = {*LISTED[command], *LISTED["network"], *LISTED.get(f"network-{command}", ())}
    check(f"the network of {command}", found(PROGRAMS_THAT_SERVE[command]), listed)


@pytest.mark.parametrize("moment", ["run", "attach", "pasta"])
def test_small_things_stand_in_for_large_modules(moment: str) -> None:
    """Whatever the list says: these take more than the rest of the start."""
    large = {
        "trio",
        "asyncio",
        "attr",
        "dataclasses",
        "inspect",
        "logging",
        "pyroute2",
        "ssl",
        "subprocess",
        "traceback",
    }
    assert found(PROGRAMS[moment]) & large == set()


def test_the_version_loads_next_to_nothing_of_the_standard_library() -> None:
    assert {name for name in found(PROGRAMS["version"]) if not name.startswith("sansnet")} <= {"gc", "importlib", "warnings"}


def test_the_network_loads_no_tls() -> None:
    """They are 3 MB; see `sansnet_cli.process.loop`."""
    large = {"ssl", "hmac", "hashlib", "idna", "tempfile", "shutil", "lzma", "bz2"}
    assert found(PROGRAMS_THAT_SERVE["run"]) & large == set()


@pytest.mark.kernel
def test_a_command_that_runs_loads_no_more() -> None:
    """Of all its processes, from its start to its end."""
    present = imported("-m", "sansnet_cli", "run", "--", "true") - pythons_own() - {"runpy", "pkgutil"}
    allowed = {*LISTED["run"], *LISTED["network"], *LISTED["network-run"], *LISTED["run-child"], *NEWER}
    assert sorted(present - allowed) == []
