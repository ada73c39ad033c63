"""Everything that a confined command may need is loaded before, since it can read no file afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

import sansnet_core
import sansnet_core.policy
import sansnet_core.recording
from tests.structure import Module, read_packages

PACKAGES: Final = read_packages(Path(__file__).parents[2])
MODULES: Final = {module.name: module for package in PACKAGES for module in package.modules.values()}

HOMES: Final = {
    f"{package.__name__}.{name}": f"{package.__name__}.{home}"
    for package in (sansnet_core, sansnet_core.policy, sansnet_core.recording)
    for home, names in vars(package)["_HOMES"].items()
    for name in names
}
"""Names that packages load when they are first used -> their modules."""

EVERYTHING: Final = (
    "-v", "-c", "/tmp/control", "--ask", "--audit", "/tmp/audit", "--record", "/tmp/record", "-p", "/tmp/capture",
    "-t", "8080", "--delay", "1ms",
)  # fmt: skip
LEARNING: Final = ("--learn", "/tmp/learnt")

COMMANDS: Final = {
    "run": ("run.command", "run.start", "run.serve"),
    "attach": ("attach.command", "attach.start", "attach.serve"),
    "serve": ("serve.command", "serve.serve"),
    "qemu": ("qemu.command", "qemu.serve"),
}
"""Command -> its modules. The last one is that which serves guests."""
GUESTS: Final = {"run": ["true"], "attach": ["1"], "serve": ["--socket", "/tmp/socket"], "qemu": ["--"]}

NOT_NEEDED: Final[dict[str, tuple[str, ...]]] = {
    # before the command begins
    "sansnet_cli.dispatch": ("sansnet_cli",),
    "sansnet_cli.compat": ("sansnet_cli", "sansnet_trio.guest.attached", "sansnet_trio.links.machine_listener"),
    "sansnet_cli.options.parser": ("sansnet_cli.options.proposals",),
    "sansnet_cli.process.background": ("sansnet_cli.process.daemon",),
    "sansnet_cli.serve.command": ("sansnet_cli.process.daemon",),
    "sansnet_cli.attach.command": ("sansnet_trio.guest.attached",),
    "sansnet_cli.attach.namespace": ("sansnet_trio.guest.target",),
    "sansnet_trio.plan.qemu_arguments": ("fractions",),
    "sansnet_cli.run.early_end": ("sansnet_cli.run.unread",),
    # where a file or socket is opened
    "sansnet_cli.runtime.control": ("sansnet_trio.control.commands",),
    "sansnet_cli.runtime.observe": ("sansnet_cli.runtime.trace", "sansnet_trio.links.observed"),
    "sansnet_cli.runtime.ports": ("sansnet_trio.forward.forwards",),
    "sansnet_cli.runtime.record": ("sansnet_trio.recording.file",),
    # in other processes
    "sansnet_trio.guest.attached": ("sansnet_trio.guest.resident",),
    "sansnet_trio.linux.netlink_messages": ("pyroute2",),
    # for arguments that no command gives
    "sansnet_trio.driver": ("sansnet_trio.services",),
    "sansnet_trio.front": ("sansnet_trio.services", "sansnet_trio.links.observed", "sansnet_trio.forward.forwards"),
}
"""Modules or folders -> others that they import in their functions, and that a confined command does not need."""


def loaded(command: str, *words: str) -> set[str]:
    """The modules of a process that is about to be confined, from a command line."""
    program = (
        "import json, sys\n"
        "from importlib import import_module\n"
        f"for name in ('dispatch', *{COMMANDS[command]!r}):\n"
        "    import_module(f'sansnet_cli.{name}')\n"
        "from sansnet_cli.process.loading import load\n"
        f"load(import_module('sansnet_cli.{command}.parser').parse(sys.argv[1:]))\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )
    line = [sys.executable, "-c", program, *words, *GUESTS[command]]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def late(module: Module, present: set[str]) -> set[str]:
    """Modules that a module imports in its functions, and that are not loaded."""
    return {module_of(name) for name in module.imports.runtime} - present


def module_of(name: str) -> str:
    """The module of a name: the name itself, or the module that has or loads its last part."""
    home = HOMES.get(name, name)
    if home not in MODULES and home not in sys.stdlib_module_names:
        home = home.rpartition(".")[0] or home
    return home


def is_needed(importer: str, name: str) -> bool:
    """Whether a confined command may import a module that is not loaded."""
    return not any(
        (importer + ".").startswith(place + ".") and (name + ".").startswith(tuple(f"{one}." for one in names))
        for place, names in NOT_NEEDED.items()
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_a_confined_command_imports_nothing(command: str) -> None:
    present = loaded(command, *EVERYTHING) | loaded(command, *LEARNING)
    missing = {(name, each) for name in present & MODULES.keys() for each in late(MODULES[name], present)}
    assert {pair for pair in missing if is_needed(*pair)} == set()


def test_a_plain_command_loads_little() -> None:
    """The start of a command without rules and files must not wait for the modules of other commands."""
    folders = (
        "sansnet_trio.audit.",
        "sansnet_trio.control.",
        "sansnet_trio.forward.",
        "sansnet_core.inspect.",
        "sansnet_core.resolver.",
        "sansnet_core.impairment",
        "sansnet_core.policy.text",
        "tomllib",
    )
    assert [name for name in loaded("run") if name.startswith(folders)] == []
