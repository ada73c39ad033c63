"""`sansnet serve`: the network of virtual machines that connect to a socket, one at a time.

Each guest has a network of its own, even if it is the same one that comes back: what it remembers of connections is
answered with a reset.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Final

import trio

from sansnet_cli.options.ports import open_forwards
from sansnet_cli.options.records import MachineOptions, ServeOptions
from sansnet_cli.output import report
from sansnet_cli.process import readiness
from sansnet_cli.runtime.control import Control, controlled
from sansnet_cli.runtime.driver import cancel_when_signalled, ending_by, make_driver, make_hints
from sansnet_cli.runtime.following import Follower
from sansnet_cli.runtime.observe import captured, observed
from sansnet_core import Network
from sansnet_trio.driver import Driver
from sansnet_trio.hostinfo import HostError
from sansnet_trio.links import Link, LinkClosed, unix_stream, vhost_user
from sansnet_trio.links.machine_listener import MachineListener, peer_process
from sansnet_trio.links.passed_socket import listens
from sansnet_trio.plan import qemu_arguments
from sansnet_trio.plan.setup import Setup

if TYPE_CHECKING:
    from sansnet_trio.forward.forwards import Forwards
    from sansnet_trio.links.observed import CaptureFile

__all__ = ["GuestServer", "check_link", "refused", "serve"]

_ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def serve(
    options: ServeOptions,
    setup: Setup,
    capture: BinaryIO | None,
    *,
    passed: socket.socket | None = None,
    listener: MachineListener | None = None,
    on_listening: Callable[[], None] = lambda: None,
    become: Callable[[], None] = lambda: None,
    on_ready: Callable[[], None] | None = None,
) -> None:
    """Serve guests until a signal comes, or the only one has gone.

    Args:
        options: whom, and how.
        setup: of their network.
        capture: the file that the options name.
        passed: the socket whose number the options have: connected to a guest, or listening.
        listener: listens already on the socket that the options name.
        on_listening: called when guests can connect, and that has been said.
        become: called when all is done that takes privileges; it may change the user.
        on_ready: called when guests can connect, instead of saying so.

    Raises:
        ListenError: guests cannot connect there, or there can be no such control socket.
        ForwardError: a port cannot be forwarded.
        HostError: this host cannot do that.
    """
    check_link(options)
    for warning in setup.warnings:
        report.warn(warning)
    readiness.prepare()
    with (
        controlled(options.control) as control,
        captured(capture) as file,
        open_forwards(options.ports, setup.config, later=control.is_on, verbose=options.verbose) as forwards,
    ):
        server = GuestServer(options, setup, file, control, forwards)
        announce = on_ready or partial(_announce, options, on_listening)
        trio.run(_serve, options, server, control, passed, listener, become, announce)


def check_link(options: MachineOptions) -> None:
    """Find out whether this host can serve such a link.

    Raises:
        HostError: it cannot.
    """
    if options.vhost_user and not vhost_user.is_supported():
        raise HostError("vhost-user works on x86-64 only; leave it out, and give QEMU -netdev stream")


async def _serve(
    options: ServeOptions,
    server: GuestServer,
    control: Control,
    passed: socket.socket | None,
    listener: MachineListener | None,
    become: Callable[[], None],
    on_ready: Callable[[], None],
) -> None:
    with ending_by(_ENDING) as signals, ExitStack() as stack:
        if passed is not None and not listens(passed):
            work = partial(_serve_guest, server, passed)
        else:
            where = passed or options.socket
            assert where is not None
            listener = stack.enter_context(closing(listener or MachineListener(where, on_refused=refused)))
            work = partial(listener.run, partial(_serve_guest, server), one_off=options.one_off)
        become()
        readiness.renounce(options.ports, controlled=control.is_on)
        on_ready()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_when_signalled, nursery.cancel_scope, signals)
            nursery.start_soon(server.report_regularly)
            nursery.start_soon(server.follow)
            nursery.start_soon(control.run)
            await work()
            nursery.cancel_scope.cancel()


def _announce(options: ServeOptions, on_listening: Callable[[], None]) -> None:
    if options.socket is not None:
        arguments = qemu_arguments.netdev(
            options.socket, qemu_arguments.OLDEST, vhost_user=options.vhost_user, name="net0"
        )
        who = f"process {os.getpid()} is waiting" if options.background else "waiting"
        report.inform(f"{who} for a guest: {' '.join(arguments)}")
    on_listening()


def refused(pid: int) -> None:
    """Say who was refused; what a listener for `serve` calls."""
    report.inform(f"process {pid} was refused, since a guest is there already")


async def _serve_guest(server: GuestServer, guest: socket.socket) -> None:
    report.inform(f"a guest has connected (process {peer_process(guest)})")
    try:
        await server.serve(guest)
    except LinkClosed as error:
        report.inform(f"the guest is disconnected: {error}")
    except OSError as error:
        report.warn(f"the guest is disconnected: {error}")


class GuestServer:
    """Gives each machine that connects a network of its own.

    Args:
        options: of the network.
        setup: likewise.
        capture: the file for the frames of all guests, if there is to be one.
        control: told of the network while there is one.
        forwards: ports that lead to whichever machine is there.
    """

    def __init__(
        self,
        options: MachineOptions,
        setup: Setup,
        capture: CaptureFile | None,
        control: Control,
        forwards: Forwards | None = None,
    ) -> None:
        self._options = options
        self._forwards = forwards
        self._follower = Follower(options, setup)
        self._capture = capture
        self._pcap = os.path.abspath(options.pcap) if options.pcap is not None else None  # wherever we go later
        self._control = control
        control.forward(forwards, namespace=False)
        self._served: tuple[Network, Driver] | None = None

    async def follow(self) -> None:
        """Keep the network of whichever guest is there like the host's, until cancelled."""
        await self._follower.run()

    async def report_regularly(self) -> None:
        """Say the counters of the guest that is served, as often as the options want it."""
        while self._options.stats is not None:
            await trio.sleep(self._options.stats)
            if self._served is not None:
                network, driver = self._served
                report.statistics(network.statistics(), driver.statistics())

    async def serve(self, guest: socket.socket) -> None:
        """Serve one guest until it has gone; the connection is closed then.

        Raises:
            LinkClosed, OSError: it has, for this reason. That is how it ends unless it is cancelled.
        """
        with closing(self._link(guest)) as link:
            if isinstance(link, vhost_user.VhostUserLink):
                await link.wait_started()
            await self._drive(observed(link, self._options, self._capture))

    def _link(self, guest: socket.socket) -> unix_stream.UnixStream | vhost_user.VhostUserLink:
        mtu = self._options.mtu
        if self._options.vhost_user:
            return vhost_user.VhostUserLink(guest, mtu=mtu)
        return unix_stream.UnixStream(guest, mtu=mtu or unix_stream.MTU.default)

    async def _drive(self, link: Link) -> None:
        setup = self._follower.setup
        hints = make_hints(self._options, setup, self._forwards, namespace=False)
        network, driver = make_driver(setup, link, self._forwards, hints)
        if self._options.verbose:
            report.configuration(setup.config, link.config)
        self._served = network, driver
        try:
            with self._control.serving(network, driver, hints), self._follower.serving(network, driver, link.config):
                await driver.run()
        finally:
            self._served = None
            if hints:
                hints.end(network.flows())
            if self._options.verbose:
                report.statistics(network.statistics(), driver.statistics())
