"""What each command does: `sansnet run` and the others, from their arguments to their exit status."""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO, Final

from sansnet_cli.attach.namespace import find_namespace, name_servers_of, needs_resident
from sansnet_cli.options.records import (
    AttachOptions,
    CommandLineError,
    MachineOptions,
    RunOptions,
    ServeOptions,
)
from sansnet_cli.runtime.observe import open_capture
from sansnet_core.records import replace
from sansnet_trio.guest.command import CommandGuest
from sansnet_trio.guest.errors import CommandNotFound
from sansnet_trio.guest.plan import GuestPlan
from sansnet_trio.linux.rtnetlink import load_alone
from sansnet_trio.plan.host import read_host_for
from sansnet_trio.plan.host_names import warn_unanswered
from sansnet_trio.plan.options import NamespaceOptions
from sansnet_trio.plan.setup import Setup, make_plan, make_setup

__all__ = ["COMMANDS"]


def _run(arguments: Sequence[str]) -> int:
    from sansnet_cli.run.parser import parse

    options = parse(arguments)
    if not (options.configure or options.root) and os.geteuid():
        raise CommandLineError(
            "--no-config leaves the interface to the command, which must be root for that; add --root"
        )
    capture = open_capture(options.pcap) if options.pcap is not None else None
    with CommandGuest.fork(options.command, functools.partial(_prepare_command, options)) as guest:
        from sansnet_cli.run.start import supervise

        try:
            return supervise(guest, options, capture)
        except CommandNotFound as error:
            if options.command == (os.environ.get("SHELL"),):
                raise CommandNotFound(f"{error} in $SHELL") from error
            raise


def _attach(arguments: Sequence[str]) -> int:
    from sansnet_cli.attach.parser import parse

    options = parse(arguments)

    def work(ready: Callable[[], None]) -> None:
        from sansnet_trio.guest.attached import AttachedGuest

        capture = open_capture(options.pcap) if options.pcap is not None else None
        namespace = find_namespace(options)
        prepare = functools.partial(_prepare_attached, options)
        with AttachedGuest.fork(namespace, prepare, stays=needs_resident(options, namespace)) as guest:
            from sansnet_cli.attach.start import attach

            attach(guest, options, capture, on_ready=lambda setup: ready())

    return _in_place(options, work)


def _serve(arguments: Sequence[str]) -> int:
    from sansnet_cli.serve.parser import parse
    from sansnet_trio.links.passed_socket import adopt

    options = parse(arguments)

    passed = None if options.fd is None else adopt(options.fd)

    def work(ready: Callable[[], None]) -> None:
        setup, capture = _prepare_machine(options)
        from sansnet_cli.serve.serve import serve

        serve(options, setup, capture, passed=passed, on_listening=ready)

    return _in_place(options, work, passed)


def _qemu(arguments: Sequence[str]) -> int:
    from sansnet_cli.qemu.parser import parse

    options = parse(arguments)
    setup, capture = _prepare_machine(options)
    from sansnet_cli.qemu.serve import boot

    return boot(options, setup, capture)


def _in_place(
    options: AttachOptions | ServeOptions,
    work: Callable[[Callable[[], None]], None],
    passed: socket.socket | None = None,
) -> int:
    """Do a command's work here or in the background; see `background.start`."""
    if not (options.background or options.pid_file):
        from sansnet_cli.process.systemd import notify_ready

        work(notify_ready)
        return 0
    from sansnet_cli.process.background import start
    from sansnet_cli.process.daemon import named_descriptors

    needed = [] if passed is None else [passed.fileno()]
    if isinstance(options, AttachOptions):
        needed += named_descriptors(options.netns, options.userns)
    return start(work, background=options.background, pid_file=options.pid_file, needed=needed)


def _prepare_machine(options: MachineOptions) -> tuple[Setup, BinaryIO | None]:
    load_alone()
    setup = make_setup(options, read_host_for(options))
    return setup, open_capture(options.pcap) if options.pcap is not None else None


def _prepare_command(options: RunOptions) -> tuple[GuestPlan, Setup]:
    plan, setup = _prepare(options)
    return replace(plan, root=options.root), setup


def _prepare(options: NamespaceOptions) -> tuple[GuestPlan, Setup]:
    return make_plan(options, read_host_for(options))


def _prepare_attached(options: AttachOptions) -> tuple[GuestPlan, Setup]:
    plan, setup = _prepare(options)
    asked = name_servers_of(options) if options.hosts else None
    return plan, replace(setup, warnings=(*setup.warnings, *warn_unanswered(options, setup.config, asked)))


COMMANDS: Final[Mapping[str, Callable[[Sequence[str]], int]]] = {
    "run": _run,
    "attach": _attach,
    "serve": _serve,
    "qemu": _qemu,
}
