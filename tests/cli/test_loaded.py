"""The modules that each command has loaded at the moments that a user waits for, against `loaded.toml`.

Every module costs time and memory in each start of a command, and most in each of its processes. A module that creeps
in fails here by its name. Of the standard library and other packages only the names of packages are listed, without
those that Python loads itself, since versions of Python divide them in other ways.
"""

from __future__ import annotations

import tomllib
from typing import Final

import pytest

from tests.cli.loaded import CHILD, LIST, NEWER, PROGRAMS, PROGRAMS_THAT_SERVE, found, found_in_a_run, pythons_own

LISTED: Final[dict[str, list[str]]] = tomllib.loads(LIST.read_text())


def check(moment: str, present: set[str], listed: set[str]) -> None:
    crept = sorted(present - listed - NEWER - pythons_own())
    assert crept == [], (
        f"{moment}: {', '.join(crept)} is loaded, and was not before. Import it in the function that uses it, or use "
        f"something smaller. If every guest needs it, write {LIST.name} again: python tests/cli/loaded.py"
    )
    gone = sorted(name for name in listed - present if name.startswith("sansnet"))
    assert gone == [], (
        f"{moment}: {', '.join(gone)} is not loaded any more; write {LIST.name} again: python tests/cli/loaded.py"
    )


@pytest.mark.parametrize("moment", PROGRAMS)
def test_before_the_caller_goes_on(moment: str) -> None:
    check(moment, found(PROGRAMS[moment]), set(LISTED[moment]))


@pytest.mark.parametrize("command", PROGRAMS_THAT_SERVE)
def test_before_the_first_frame(command: str) -> None:
    listed = {*LISTED[command], *LISTED["network"], *LISTED.get(f"network-{command}", ())}
    check(f"the network of {command}", found(PROGRAMS_THAT_SERVE[command]), listed)


def test_in_the_process_that_configures_the_interface() -> None:
    check("the guest's child", found(CHILD), {*LISTED["run"], *LISTED["child"]})


@pytest.mark.parametrize("moment", ["run", "attach", "pasta"])
def test_small_things_stand_in_for_large_modules(moment: str) -> None:
    """Also if the list has them: these take more than the rest of the start."""
    large = {
        "trio",
        "asyncio",
        "attr",
        "dataclasses",
        "gettext",
        "inspect",
        "logging",
        "platform",
        "pyroute2",
        "selectors",
        "ssl",
        "subprocess",
        "traceback",
    }
    assert found(PROGRAMS[moment]) & large == set()


def test_the_version_loads_next_to_nothing_of_the_standard_library() -> None:
    assert {name for name in found(PROGRAMS["version"]) if not name.startswith("sansnet")} <= {
        "gc",
        "importlib",
        "warnings",
    }


def test_the_network_loads_no_tls() -> None:
    """They are 3 MB; see `sansnet_cli.process.loop`."""
    large = {"ssl", "hmac", "hashlib", "idna", "tempfile", "shutil", "lzma", "bz2", "platform"}
    assert found(PROGRAMS_THAT_SERVE["run"]) & large == set()


@pytest.mark.kernel
def test_a_command_that_runs_loads_no_more() -> None:
    """Of all its processes, from its start to its end."""
    allowed = {*LISTED["run"], *LISTED["network"], *LISTED["network-run"], *LISTED["child"], *NEWER}
    assert sorted(found_in_a_run() - allowed) == []
