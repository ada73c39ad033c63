"""The modules that commands have loaded at some moments, and `loaded.toml`, which lists them.

`python tests/cli/loaded.py` writes the list again, as root. Look at the difference: each module that is added costs
time in every start, and memory in every process of a guest.
"""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["CHILD", "LIST", "NEWER", "PROGRAMS", "PROGRAMS_THAT_SERVE", "found", "found_in_a_run", "pythons_own"]

LIST: Final = Path(__file__).parent / "loaded.toml"
HEADER: Final = """\
# The modules that commands have loaded; see loaded.py, which writes this list.
# version: for its answer. run, attach, pasta, serve: before the caller goes on. network: in addition, before the first
# frame of any guest; network-COMMAND: of that command's guest. child: in addition to run, in the process that
# configures the guest's interface.
"""

BEGIN: Final = (
    "import sansnet_cli.main, sansnet_cli.compat, sansnet_cli.process.isolation, sansnet_cli.dispatch\n"
    "from sansnet_cli.process.library import load_argparse, load_socket\nload_socket()\n"
)
PARSE: Final = f"{BEGIN}load_argparse()\n"
SERVE: Final = "from sansnet_cli.process.loading import load\nload(parse({words!r}), 'sansnet_cli.{command}.serve')\n"

PROGRAMS: Final = {
    "version": "import sys\nsys.argv = ['sansnet', '--version']\nfrom sansnet_cli.main import main\nmain()\n",
    "run": f"{BEGIN}from sansnet_cli.run.command import parse\nparse(['true'])\nimport sansnet_cli.run.start\n",
    "attach": f"{PARSE}from sansnet_cli.attach.command import parse\nparse(['--background', '1'])\n"
    "import sansnet_cli.attach.start, sansnet_cli.process.daemon, sansnet_trio.guest.target\n",
    "pasta": f"{BEGIN}from sansnet_cli.compat import main, launch, request, parsed_options\n"
    "request.read(parsed_options.ParsedOptions('pasta', ['--config-net', '1']))\n"
    "import sansnet_cli.attach.start, sansnet_cli.process.daemon, sansnet_trio.guest.target\n",
    "serve": f"{PARSE}from sansnet_cli.serve.command import parse\nparse(['--background', '--socket', '/s'])\n"
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

CHILD: Final = f"{PROGRAMS['run']}from sansnet_trio.linux import netlink_messages\nnetlink_messages.load()\n"
"""A program that has loaded what the process has that configures the guest's interface."""

LIBRARY: Final = "__mypyc"
"""How the name ends of the library that holds a package's compiled modules, each of which has its own name."""
_PATHLIB: Final = {"glob", "grp", "pwd"} if sys.version_info >= (3, 13) else set[str]()
NEWER: Final = {"annotationlib", "ast", "colorize", "compression", "string", *_PATHLIB}
"""Modules that later versions of Python load for others that are listed."""


def imported(*arguments: str) -> set[str]:
    """Packages of others, and modules of ours, that a program imports, from `python -X importtime`.

    `importlib.import_module` and compiled modules import without a line there, so modules of ours that the program
    prints count too.
    """
    done = subprocess.run([sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=True)
    names = re.findall(r"^import time:.*\| *(\S+)$", done.stderr, re.MULTILINE)
    names += [word for word in done.stdout.split() if word.startswith("sansnet_")]
    loaded = {folded(name) for name in names if not name.startswith("_") and not name.endswith(LIBRARY)}
    return loaded - {"imported", "package"}


def folded(name: str) -> str:
    top = name.partition(".")[0]
    return name if top.startswith("sansnet") else top


@cache
def pythons_own() -> set[str]:
    return imported("-c", "pass")


def found(program: str) -> set[str]:
    return imported("-c", f"{program}import sys\nprint(*sys.modules)\n") - pythons_own()


def found_in_a_run() -> set[str]:
    """The modules of all processes of `sansnet run`, from its start to its end."""
    return imported("-m", "sansnet_cli", "run", "--", "true") - pythons_own() - {"runpy", "pkgutil"}


def measured() -> dict[str, set[str]]:
    """The sections of the list."""
    early = {moment: found(program) for moment, program in PROGRAMS.items()}
    serving = {command: found(program) for command, program in PROGRAMS_THAT_SERVE.items()}
    late = {command: names - early[command] for command, names in serving.items()}
    shared = set.intersection(*serving.values())
    network = {name for names in late.values() for name in names if name in shared}
    own = {f"network-{command}": names - network for command, names in late.items()}
    return {**early, "network": network, **own, "child": found(CHILD) - early["run"]}


def written(sections: dict[str, set[str]]) -> str:
    """The text of the list: the modules of others, then ours."""
    text = HEADER
    for section, names in sections.items():
        text += f"\n{section} = [\n"
        for ours in (False, True):
            words = [f'"{name}",' for name in sorted(names) if name.startswith("sansnet") == ours]
            text += textwrap.indent("\n".join(textwrap.wrap(" ".join(words), 112, break_on_hyphens=False)), "    ")
            text += "\n" if words else ""
        text += "]\n"
    return text


if __name__ == "__main__":
    LIST.write_text(written(measured()))
