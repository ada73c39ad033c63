"""`sansnet serve`: the network of virtual machines that connect to a socket, one at a time.

Each guest has a network of its own, even if it is the same one that comes back: what it remembers of connections is
answered with a reset.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Final

import trio

from sansnet_cli import process, qemu, report
from sansnet_cli.capture import open_capture
from sansnet_cli.control import Control, controlled
from sansnet_cli.driving import cancel_when_signalled, make_driver, make_hints
from sansnet_cli.following import Follower
from sansnet_cli.observe import observed
from sansnet_cli.options import MachineOptions, ServeOptions
from sansnet_cli.plan import Setup
from sansnet_cli.ports import forwarded
from sansnet_core import Network
from sansnet_trio.driver import Driver
from sansnet_trio.hostinfo import HostError
from sansnet_trio.links import Link, LinkClosed, unix_stream, vhost_user
from sansnet_trio.listener import GuestListener, adopt, peer_process

if TYPE_CHECKING:
    from sansnet_trio.forwards import Forwards

__all__ = ["GuestServer", "check_link", "refused", "serve"]

_ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def serve(
    options: ServeOptions,
    setup: Setup,
    capture: BinaryIO | None,
    *,
    listener: GuestListener | None = None,
    on_ready: Callable[[], None] | None = None,
) -> None:
    """Serve guests until a signal comes, or the only one has gone.

    Args:
        options: whom, and how.
        setup: of their network.
        capture: the file that the options name.
        listener: listens already on the socket that the options name.
        on_ready: called when guests can connect, instead of saying so.

    Raises:
        ListenError: guests cannot connect there, or there can be no such control socket.
        ForwardError: a port cannot be forwarded.
        HostError: this host cannot do that.
    """
    check_link(options)
    for warning in setup.warnings:
        report.warn(warning)
    process.prepare()
    with (
        controlled(options.control) as control,
        forwarded(options.ports, setup.config, later=control.is_on, verbose=options.verbose) as forwards,
    ):
        server = GuestServer(options, setup, capture, control, forwards)
        trio.run(_serve, options, server, control, listener, on_ready or partial(_announce, options))


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
    listener: GuestListener | None,
    on_ready: Callable[[], None],
) -> None:
    with trio.open_signal_receiver(*_ENDING) as signals, ExitStack() as stack:
        if options.fd is not None:
            work = partial(_serve_guest, server, adopt(options.fd))
        else:
            assert options.socket is not None
            listener = stack.enter_context(closing(listener or GuestListener(options.socket, on_refused=refused)))
            work = partial(listener.run, partial(_serve_guest, server), one_off=options.one_off)
        on_ready()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_when_signalled, nursery.cancel_scope, signals)
            nursery.start_soon(server.report_regularly)
            nursery.start_soon(server.follow)
            nursery.start_soon(control.run)
            await work()
            nursery.cancel_scope.cancel()


def _announce(options: ServeOptions) -> None:
    if options.socket is not None:
        arguments = qemu.netdev(options.socket, qemu.OLDEST, vhost_user=options.vhost_user, name="net0")
        report.inform(f"waiting for a guest: {' '.join(arguments)}")


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
        capture: the file for the frames, if there is to be one.
        control: told of the network while there is one.
        forwards: ports that lead to whichever machine is there.
    """

    def __init__(
        self,
        options: MachineOptions,
        setup: Setup,
        capture: BinaryIO | None,
        control: Control,
        forwards: Forwards | None = None,
    ) -> None:
        self._options = options
        self._forwards = forwards
        self._follower = Follower(options, setup)
        self._capture = capture
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
            await self._drive(self._observed(link))

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

    def _observed(self, link: Link) -> Link:
        """All guests are captured in one file."""
        file, self._capture = self._capture, None
        if self._options.pcap is not None and file is None:
            try:
                file = open_capture(self._options.pcap, append=True)
            except HostError as error:
                report.warn(f"this guest is not captured: {error}")
        return observed(link, self._options, file)
