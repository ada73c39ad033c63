"""The parsers of all commands. Documentation, manual pages and shell completion are made from them."""

from __future__ import annotations

import argparse

from sansnet_cli.attach import parser as attach
from sansnet_cli.completion import parser as completion
from sansnet_cli.ctl import parser as ctl
from sansnet_cli.policy import parser as policy
from sansnet_cli.qemu import parser as qemu
from sansnet_cli.replay import parser as replay
from sansnet_cli.run import parser as run
from sansnet_cli.serve import parser as serve

__all__ = ["parsers"]


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Make new parsers, by the names of their commands, in the order of `sansnet --help`."""
    guests = {"run": run, "attach": attach, "serve": serve, "qemu": qemu}
    others = {"ctl": ctl, "policy": policy, "replay": replay, "completion": completion}
    return {name: module.parser() for name, module in (guests | others).items()}
