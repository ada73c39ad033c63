"""`sansnet qemu`, from its command line to the start of QEMU."""

from __future__ import annotations

from collections.abc import Sequence

from sansnet_cli.process.loop import load_trio
from sansnet_cli.qemu.parser import parse
from sansnet_cli.runtime.observe import open_capture
from sansnet_trio.plan.host import read_host_for
from sansnet_trio.plan.setup import make_setup
from sansnet_trio.sandbox.mode import choose

__all__ = ["qemu"]


def qemu(arguments: Sequence[str]) -> int:
    """Run `sansnet qemu`.

    Args:
        arguments: the words after `qemu`.

    Returns:
        QEMU's exit status, or the negative number of the signal that ended it.
    """
    options = parse(arguments)
    choose(options.sandbox)
    setup = make_setup(options, read_host_for(options))
    capture = open_capture(options.pcap)
    load_trio()
    from sansnet_cli.qemu.serve import serve

    return serve(options, setup, capture)
