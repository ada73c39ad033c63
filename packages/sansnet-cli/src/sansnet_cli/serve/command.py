"""`sansnet serve`, from its command line to the network of virtual machines."""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import nullcontext

from sansnet_cli.options.records import ServeOptions
from sansnet_cli.output import report
from sansnet_cli.process import background
from sansnet_cli.process.loop import load_trio
from sansnet_cli.runtime.observe import open_capture
from sansnet_cli.serve.parser import parse
from sansnet_trio.links.passed_socket import adopt
from sansnet_trio.plan import qemu_arguments
from sansnet_trio.plan.host import read_host_for
from sansnet_trio.plan.setup import make_setup
from sansnet_trio.sandbox.mode import choose

__all__ = ["serve"]


def serve(arguments: Sequence[str]) -> int:
    """Run `sansnet serve`.

    Args:
        arguments: the words after `serve`.

    Returns:
        The exit status.
    """
    options = parse(arguments)
    choose(options.sandbox)
    passed = None if options.fd is None else adopt(options.fd)
    with passed or nullcontext():
        work = functools.partial(_serve, options, passed)
        return background.start(work, background=options.background, pid_file=options.pid_file)


def _serve(options: ServeOptions, passed: socket.socket | None, on_ready: Callable[[], None]) -> None:
    setup = make_setup(options, read_host_for(options))
    capture = open_capture(options.pcap)
    load_trio()
    from sansnet_cli.serve import serve

    def ready() -> None:
        if options.socket is not None:
            _announce(options, options.socket)
        on_ready()

    source = passed or options.socket
    assert source is not None
    serve.serve(options, setup, capture, source, on_ready=ready)


def _announce(options: ServeOptions, path: str) -> None:
    arguments = qemu_arguments.netdev(path, qemu_arguments.OLDEST, vhost_user=options.vhost_user, name="net0")
    waiting = f"process {os.getpid()} is waiting" if options.background else "waiting"
    report.inform(f"{waiting} for a guest: {' '.join(arguments)}")
