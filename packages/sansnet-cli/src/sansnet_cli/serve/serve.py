"""`sansnet serve` with trio: the network of virtual machines that connect to a socket, one at a time.

Each machine gets a new network, even a machine that connects again: segments of its old connections are answered with
a reset.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, closing
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import trio

from sansnet_cli.options.records import MachineOptions, ServeOptions
from sansnet_cli.output import report
from sansnet_cli.process import readiness
from sansnet_cli.runtime.audit import audited
from sansnet_cli.runtime.control import controlled
from sansnet_cli.runtime.observe import captured, observed
from sansnet_cli.runtime.ports import open_forwards
from sansnet_cli.runtime.record import recorded
from sansnet_cli.runtime.session import Session
from sansnet_cli.runtime.termination import cancel_when_signalled, terminating_signals
from sansnet_trio.hostinfo import HostError
from sansnet_trio.links import LinkClosed, vhost_user
from sansnet_trio.links.machine_link import MachineLink, machine_link
from sansnet_trio.links.machine_listener import MachineListener, peer_process
from sansnet_trio.links.passed_socket import listens
from sansnet_trio.network import GuestNetwork
from sansnet_trio.plan.setup import Setup
from sansnet_trio.recording.failures import NetworkFailed

if TYPE_CHECKING:
    from sansnet_trio.links.observed import CaptureFile

__all__ = ["Source", "check_link", "machine_network", "report_refused", "serve"]

Source: TypeAlias = str | socket.socket | MachineListener
"""The path of a socket for machines to connect to, a socket that listens or is connected, or a listener."""


def serve(
    options: ServeOptions,
    setup: Setup,
    capture: BinaryIO | None,
    source: Source,
    *,
    become: Callable[[], None] = lambda: None,
    on_ready: Callable[[], None],
) -> None:
    """Serve machines until a signal comes, or the only machine is gone.

    Args:
        options: the options of `sansnet serve`.
        setup: the setup of each machine's network.
        capture: an open file for a capture.
        source: the socket of the machines; see `Source`.
        become: called after everything that needs privileges; it may change the user.
        on_ready: called when machines can connect.

    Raises:
        ListenError: the socket for machines or the control socket cannot be made.
        ForwardError: a port cannot be forwarded.
        HostError: this host cannot serve such a link.
    """
    check_link(options)
    for warning in setup.warnings:
        report.warn(warning)
    readiness.prepare()
    with (
        controlled(options) as control,
        captured(capture) as file,
        audited(options) as audit,
        recorded(options) as recording,
        open_forwards(options, setup, control) as forwards,
    ):

        def ready() -> None:
            become()
            readiness.renounce(options.ports, controlled=control.is_on)
            on_ready()

        session = Session(options, setup, control, forwards, audit=audit, recording=recording, prompts=True)
        trio.run(_serve, session, options, file, source, ready)


def check_link(options: MachineOptions) -> None:
    """Find out whether this host can serve such a link.

    Raises:
        HostError: it cannot.
    """
    if options.vhost_user and not vhost_user.is_supported():
        raise HostError("vhost-user works on x86-64 only; leave it out, and give QEMU -netdev stream")


async def _serve(
    session: Session,
    options: ServeOptions,
    capture: CaptureFile | None,
    source: Source,
    on_listening: Callable[[], None],
) -> None:
    serve_machine = partial(_serve_machine, session, options, capture)
    with terminating_signals() as signals, ExitStack() as stack:
        if isinstance(source, socket.socket) and not listens(source):
            work = partial(serve_machine, source)
        else:
            if not isinstance(source, MachineListener):
                source = MachineListener(source, on_refused=report_refused)
            listener = stack.enter_context(closing(source))
            work = partial(listener.run, serve_machine, one_off=options.one_off)
        on_listening()
        async with session.running() as nursery:
            nursery.start_soon(cancel_when_signalled, nursery.cancel_scope, signals)
            await work()


def report_refused(pid: int) -> None:
    """Report a machine that was refused; for `MachineListener`."""
    report.inform(f"process {pid} was refused, because a guest is connected already")


async def _serve_machine(
    session: Session, options: MachineOptions, capture: CaptureFile | None, connection: socket.socket
) -> None:
    report.inform(f"a guest has connected (process {peer_process(connection)})")
    try:
        async with (
            machine_link(
                connection,
                use_vhost_user=options.vhost_user,
                mtu=options.mtu,
                allow_unsealed=options.allow_unsealed,
            ) as link,
            machine_network(session, options, capture, link),
        ):
            await trio.sleep_forever()
    except LinkClosed as error:
        report.inform(f"the guest is disconnected: {error}")
    except (NetworkFailed, OSError) as error:
        report.warn(f"the guest is disconnected: {error}")


@asynccontextmanager
async def machine_network(
    session: Session, options: MachineOptions, capture: CaptureFile | None, link: MachineLink
) -> AsyncIterator[GuestNetwork]:
    """The network of a machine that has connected, as long as the block runs.

    Args:
        session: the command's session.
        options: the options of the machine's link.
        capture: a file for the frames of all machines.
        link: its link.

    Raises:
        LinkClosed, NetworkFailed, OSError: the machine has no network any more; the error has the reason.
    """
    seen = observed(link, options, capture)
    if options.verbose:
        report.configuration(session.setup.config, seen.config)
    async with session.serving(seen) as network:
        yield network
