"""`sansnet serve`: the network of virtual machines that connect to a socket, one at a time.

Each guest has a network of its own, even if it is the same one that comes back: what it remembers of connections is
answered with a reset.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from typing import BinaryIO, Final

import trio

from sansnet_cli import process, report
from sansnet_cli.capture import open_capture
from sansnet_cli.options import MachineOptions, ServeOptions
from sansnet_cli.plan import Setup
from sansnet_core import Network
from sansnet_trio.capture import CapturedLink
from sansnet_trio.driver import Driver
from sansnet_trio.hostinfo import HostError
from sansnet_trio.links import Link, LinkClosed, unix_stream, vhost_user
from sansnet_trio.listener import GuestListener, adopt, peer_process

__all__ = ["serve"]

_ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def serve(options: ServeOptions, setup: Setup, capture: BinaryIO | None) -> None:
    """Serve guests until a signal comes, or the only one has gone.

    Raises:
        ListenError: guests cannot connect there.
        HostError: this host cannot do that.
    """
    check_link(options)
    for warning in setup.warnings:
        report.warn(warning)
    process.prepare()
    trio.run(_serve, options, _Server(options, setup, capture))


def check_link(options: MachineOptions) -> None:
    """Find out whether this host can serve such a link.

    Raises:
        HostError: it cannot.
    """
    if options.vhost_user and not vhost_user.is_supported():
        raise HostError("vhost-user works on x86-64 only; leave it out, and give QEMU -netdev stream")


async def _serve(options: ServeOptions, server: _Server) -> None:
    with trio.open_signal_receiver(*_ENDING) as signals, ExitStack() as stack:
        if options.fd is not None:
            work = partial(server.serve, adopt(options.fd))
        else:
            assert options.socket is not None
            listener = stack.enter_context(closing(GuestListener(options.socket, on_refused=_refused)))
            report.warn(f"waiting for a guest: {_netdev(options.vhost_user, options.socket)}")
            work = partial(listener.run, server.serve, one_off=options.one_off)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_when_signalled, nursery.cancel_scope, signals)
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


def _refused(pid: int) -> None:
    report.warn(f"process {pid} was refused, since a guest is there already")


class _Server:
    def __init__(self, options: ServeOptions, setup: Setup, capture: BinaryIO | None) -> None:
        self._options = options
        self._setup = setup
        self._capture = capture

    async def serve(self, guest: socket.socket) -> None:
        """Serve one guest until it has gone."""
        report.warn(f"a guest has connected (process {peer_process(guest)})")
        with closing(self._link(guest)) as link:
            try:
                if isinstance(link, vhost_user.VhostUserLink):
                    await link.wait_started()
                await self._drive(self._captured(link))
            except (LinkClosed, OSError) as error:
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
            await driver.run()
        finally:
            if self._options.verbose:
                report.statistics(network.statistics(), driver.statistics())

    def _captured(self, link: Link) -> Link:
        """All guests are captured in one file."""
        if self._options.pcap is None:
            return link
        file, self._capture = self._capture, None
        try:
            return CapturedLink(link, file or open_capture(self._options.pcap, append=True))
        except HostError as error:
            report.warn(f"this guest is not captured: {error}")
            return link
