"""`sansnet serve`: the network of virtual machines that connect to a socket, one at a time.

Each guest has a network of its own, even if it is the same one that comes back: what it remembers of connections is
answered with a reset.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from typing import BinaryIO, Final

import trio

from sansnet_cli import process, report
from sansnet_cli.capture import open_capture
from sansnet_cli.observe import observed
from sansnet_cli.options import MachineOptions, ServeOptions
from sansnet_cli.plan import Setup
from sansnet_core import Network
from sansnet_trio.driver import Driver
from sansnet_trio.hostinfo import HostError
from sansnet_trio.links import Link, LinkClosed, unix_stream, vhost_user
from sansnet_trio.listener import GuestListener, adopt, peer_process

__all__ = ["refused", "serve"]

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
        ListenError: guests cannot connect there.
        HostError: this host cannot do that.
    """
    check_link(options)
    for warning in setup.warnings:
        report.warn(warning)
    process.prepare()
    trio.run(_serve, options, _Server(options, setup, capture), listener, on_ready or partial(_announce, options))


def check_link(options: MachineOptions) -> None:
    """Find out whether this host can serve such a link.

    Raises:
        HostError: it cannot.
    """
    if options.vhost_user and not vhost_user.is_supported():
        raise HostError("vhost-user works on x86-64 only; leave it out, and give QEMU -netdev stream")


async def _serve(
    options: ServeOptions, server: _Server, listener: GuestListener | None, on_ready: Callable[[], None]
) -> None:
    with trio.open_signal_receiver(*_ENDING) as signals, ExitStack() as stack:
        if options.fd is not None:
            work = partial(server.serve, adopt(options.fd))
        else:
            assert options.socket is not None
            listener = stack.enter_context(closing(listener or GuestListener(options.socket, on_refused=refused)))
            work = partial(listener.run, server.serve, one_off=options.one_off)
        on_ready()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_when_signalled, nursery.cancel_scope, signals)
            nursery.start_soon(server.report_regularly)
            await work()
            nursery.cancel_scope.cancel()


async def _cancel_when_signalled(scope: trio.CancelScope, signals: AsyncIterator[int]) -> None:
    async for _ in signals:
        scope.cancel()


def _netdev(vhost_user: bool, path: str) -> str:
    """What QEMU needs to come here; both options take the same comma twice for one in a path."""
    path = path.replace(",", ",,")
    if vhost_user:
        return f"-chardev socket,id=c0,path={path},reconnect=1 -netdev vhost-user,id=n0,chardev=c0"
    return f"-netdev stream,id=n0,server=off,addr.type=unix,addr.path={path}"


def _announce(options: ServeOptions) -> None:
    if options.socket is not None:
        report.inform(f"waiting for a guest: {_netdev(options.vhost_user, options.socket)}")


def refused(pid: int) -> None:
    """Say who was refused; what a listener for `serve` calls."""
    report.inform(f"process {pid} was refused, since a guest is there already")


class _Server:
    def __init__(self, options: ServeOptions, setup: Setup, capture: BinaryIO | None) -> None:
        self._options = options
        self._setup = setup
        self._capture = capture
        self._served: tuple[Network, Driver] | None = None

    async def report_regularly(self) -> None:
        """Say the counters of the guest that is served, as often as the options want it."""
        while self._options.stats is not None:
            await trio.sleep(self._options.stats)
            if self._served is not None:
                network, driver = self._served
                report.statistics(network.statistics(), driver.statistics())

    async def serve(self, guest: socket.socket) -> None:
        """Serve one guest until it has gone."""
        report.inform(f"a guest has connected (process {peer_process(guest)})")
        with closing(self._link(guest)) as link:
            try:
                if isinstance(link, vhost_user.VhostUserLink):
                    await link.wait_started()
                await self._drive(self._observed(link))
            except LinkClosed as error:
                report.inform(f"the guest is disconnected: {error}")
            except OSError as error:
                report.warn(f"the guest is disconnected: {error}")

    def _link(self, guest: socket.socket) -> unix_stream.UnixStream | vhost_user.VhostUserLink:
        mtu = self._options.mtu
        if self._options.vhost_user:
            return vhost_user.VhostUserLink(guest, mtu=mtu)
        return unix_stream.UnixStream(guest, mtu=mtu or unix_stream.MTU.default)

    async def _drive(self, link: Link) -> None:
        config = replace(self._setup.config, link=link.config)
        network = Network(config, now=trio.current_time(), secret=process.secret())
        driver = Driver(network, link, interface=self._setup.interface)
        if self._options.verbose:
            report.configuration(config, config.link)
        try:
            self._served = network, driver
            await driver.run()
        finally:
            self._served = None
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
