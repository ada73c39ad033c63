"""A guest in the same program, whose connections are trio streams."""

from __future__ import annotations

import os
from dataclasses import replace
from errno import EADDRINUSE, ECONNABORTED, ENETDOWN, ENETUNREACH, ETIMEDOUT
from typing import TYPE_CHECKING, Final

import trio

from sansnet_core import addresses
from sansnet_core.testing import GuestStack, GuestTcpOptions, Impairment, Netem, packets
from sansnet_trio.testing.answers import Answers
from sansnet_trio.testing.datagrams import SimulatedDatagrams
from sansnet_trio.testing.pump import Pump
from sansnet_trio.testing.resolver import resolve
from sansnet_trio.testing.streams import SimulatedListener, SimulatedStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from sansnet_core import NetworkConfig
    from sansnet_core.addresses import AnyAddress
    from sansnet_core.testing.packets import Ip
    from sansnet_trio.network import GuestNetwork
    from sansnet_trio.testing.host import SimulatedHost
    from sansnet_trio.testing.memory_link import MemoryLink

__all__ = ["GUEST_MAC", "SimulatedGuest"]

GUEST_MAC: Final = bytes.fromhex("020000000001")
"""The MAC address of simulated guests; locally administered."""

_CONNECT_TIME: Final = 127.0
"""Seconds until an attempt to connect ends: Linux's tcp_syn_retries of 6 (tcp(7))."""
_EPHEMERAL: Final = range(32768, 61000)
"""Local ports (ip_local_port_range in ip(7))."""
_IDENTIFIER: Final = 1
"""Identifier of all pings; they have different sequence numbers."""


class _Ping:
    """A ping that waits for its reply."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.errno = 0


class SimulatedGuest:
    """A guest in the same program: a network stack with a TCP of its own, at the other end of a link in memory.

    Its connections are trio streams, and its errors are those of the kernel's sockets. It is strict: if the network
    sends something that no correct network sends, `run` raises `AssertionError`.

    Args:
        link: the link. The driver has the other end.
        config: the configuration of the network, from which the guest has its addresses.
        tcp: the abilities of the guest's TCP; None for a window of 256 KiB, SACK and window scaling. The MTU of the
            link limits its `mss`, and `autoread` has no effect.
        up, down: the cables from the guest and to it; None for one without delay and faults.
        seed: the beginning of the random faults of the cables.

    Attributes:
        network: its network; set by `open_simulated_guest`.
        host: the simulated host of its network; set by `open_simulated_guest`.
        nursery: its tasks end with the block of `open_simulated_guest`, which sets it; good for servers.
        link: the link.
        stack: the guest's stack, for tests that look at segments.
        ipv4, ipv6: its addresses as bytes; None without the family.
    """

    def __init__(
        self,
        link: MemoryLink,
        config: NetworkConfig,
        *,
        tcp: GuestTcpOptions | None = None,
        up: Impairment | None = None,
        down: Impairment | None = None,
        seed: int = 0,
    ) -> None:
        self.network: GuestNetwork
        self.host: SimulatedHost
        self.nursery: trio.Nursery
        self.link: Final = link
        self.ipv4: Final = None if config.ipv4 is None else config.ipv4.address
        self.ipv6: Final = None if config.ipv6 is None else config.ipv6.address
        self.stack: Final = GuestStack(
            mac=config.guest_mac or GUEST_MAC,
            ipv4=self.ipv4 or bytes(4),
            ipv6=self.ipv6 or bytes(16),
            gateway_mac=config.mac,
            vnet=link.config.vnet_header,
        )
        self._name_servers = config.dns_servers
        self._mtu = link.config.mtu
        self._tcp = replace(tcp or GuestTcpOptions(mss=self._mtu), autoread=False)
        self._pump = Pump(self.stack, link, Netem(up or Impairment(), seed), Netem(down or Impairment(), seed + 1))
        self._listeners: dict[int, SimulatedListener] = {}
        self._sockets: dict[int, SimulatedDatagrams] = {}
        self._pings: dict[int, _Ping] = {}
        self._ports = _EPHEMERAL.start
        self._numbers = 0
        answers = Answers(self.stack, self._listeners, self._sockets, self._note_reply)
        self._pump.members.append(answers)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry frames until cancelled, or until the driver closes the link. Then all connections fail.

        Args:
            task_status: passed by `nursery.start`, which returns when frames are carried.

        Raises:
            AssertionError: the network sent something that no correct network sends.
        """
        task_status.started()
        try:
            await self._pump.run()
        except trio.Cancelled:
            self._end()
            raise
        self._end()  # not after an error, which is to cancel the tasks that use the guest

    def _end(self) -> None:
        self._pump.end(ENETDOWN)
        for ping in self._pings.values():
            ping.errno = ENETDOWN
            ping.done.set()

    def impair(self, *, up: Impairment | None = None, down: Impairment | None = None) -> None:
        """Change the cables from the guest or to it; None leaves one as it is. Frames on the way arrive as planned."""
        for cable, impairment in ((self._pump.up, up), (self._pump.down, down)):
            if impairment is not None:
                cable.become(impairment)

    async def resolve(self, name: str) -> list[bytes]:
        """Look up the addresses of a host name, as the guest's resolver does: at `NetworkConfig.dns_servers`.

        Returns:
            Its addresses, 4 or 16 bytes each; those of IPv4 first.

        Raises:
            socket.gaierror: EAI_NONAME, there is no such name; EAI_NODATA, it has no address; EAI_AGAIN, no server
                answered.
        """
        families = [len(address) for address in (self.ipv4, self.ipv6) if address is not None]
        return await resolve(name, self._name_servers, families, self.open_datagrams)

    async def _look_up(self, host: AnyAddress) -> bytes:
        """One address of a host that is given by address or by name."""
        try:
            return addresses.packed(host)
        except ValueError:
            if not isinstance(host, str) or ":" in host or host.replace(".", "").isdecimal():
                raise
        return (await self.resolve(host))[0]

    async def open_tcp_stream(self, host: AnyAddress, port: int, *, local_port: int | None = None) -> SimulatedStream:
        """Connect to a server, as `trio.open_tcp_stream` in the guest.

        Args:
            host: the address of the server, or its name, which `resolve` looks up.
            port: its port.
            local_port: the guest's port; None takes a free one.

        Raises:
            socket.gaierror: see `resolve`.
            OSError: with the errno of the kernel's connect(2): ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT
                after 127 seconds, and others that ICMP errors mean.
        """
        address = await self._look_up(host)
        local = self._address(len(address))
        if local_port is None:
            local_port = self._free_port(lambda mine: (local, mine, address, port) in self.stack.connections)
        elif (local, local_port, address, port) in self.stack.connections:
            raise _error(EADDRINUSE)
        options = replace(self._tcp, mss=self._mss(len(address)))
        connection = self.stack.connect((address, port), options, port=local_port, now=trio.current_time())
        stream = SimulatedStream(self._pump, connection)
        self._pump.kick()
        errno = ECONNABORTED  # if cancelled: Linux sends nothing then
        try:
            with trio.move_on_after(_CONNECT_TIME):
                await stream.wait_established()
                return stream
            errno = ETIMEDOUT
            raise _error(errno)
        except BaseException:
            stream.fail(errno)
            raise

    def listen_tcp(self, port: int = 0, *, backlog: int = 128) -> SimulatedListener:
        """Listen in the guest; `trio.serve_listeners` serves the listener.

        Args:
            port: 0 takes a free one.
            backlog: most connections that wait for `accept`.

        Raises:
            OSError: EADDRINUSE.
        """
        port = port or self._free_port(self._listeners.__contains__)
        if port in self._listeners:
            raise _error(EADDRINUSE)
        options = replace(self._tcp, mss=self._mss(16))
        listener = SimulatedListener(self._pump, port, options, backlog, self._listeners)
        return listener

    def open_datagrams(self, port: int = 0) -> SimulatedDatagrams:
        """Open a UDP socket in the guest.

        Args:
            port: 0 takes a free one.

        Raises:
            OSError: EADDRINUSE.
        """
        port = port or self._free_port(self._sockets.__contains__)
        if port in self._sockets:
            raise _error(EADDRINUSE)
        socket = SimulatedDatagrams(port, self._address, self._send, self._sockets)
        self._pump.members.append(socket)
        return socket

    async def ping(self, host: AnyAddress, data: bytes = bytes(56), *, ttl: int = 64) -> float:
        """Send an echo request and wait for its reply.

        Args:
            host: the address or the name of the destination.
            data: the data of the request.
            ttl: TTL or hop limit.

        Returns:
            Seconds until the reply came.

        Raises:
            OSError: the errno that an ICMP error means.
        """
        address = await self._look_up(host)
        self._numbers = number = (self._numbers + 1) % (1 << 16)
        ping = self._pings[number] = _Ping()
        began = trio.current_time()
        request = packets.echo_request(self._address(len(address)), address, _IDENTIFIER, number, data)
        try:
            self._send(replace(request, ttl=ttl))
            await ping.done.wait()
        finally:
            del self._pings[number]
        if ping.errno:
            raise _error(ping.errno)
        return trio.current_time() - began

    def _note_reply(self, number: int, errno: int) -> None:
        if (ping := self._pings.get(number)) is not None:
            ping.errno = errno
            ping.done.set()

    def _send(self, ip: Ip) -> None:
        """Send a packet, in fragments if the MTU requires it."""
        head = 20 if ip.version == 4 else 40
        if head + len(ip.payload) <= self._mtu:
            self.stack.send(ip)
        else:
            self._numbers = (self._numbers + 1) % (1 << 16)
            size = (self._mtu - head - (0 if ip.version == 4 else 8)) // 8 * 8
            for part in packets.fragments(ip, size, self._numbers):
                self.stack.send(part)
        self._pump.kick()

    def _address(self, size: int) -> bytes:
        """The guest's address of this length in bytes."""
        address = self.ipv4 if size == 4 else self.ipv6
        if address is None:
            raise _error(ENETUNREACH)
        return address

    def _mss(self, size: int) -> int:
        """The MSS to announce to an address of this length (RFC 6691)."""
        return min(self._tcp.mss, self._mtu - (40 if size == 4 else 60))

    def _free_port(self, taken: Callable[[int], bool]) -> int:
        for _ in _EPHEMERAL:
            self._ports = self._ports + 1 if self._ports + 1 in _EPHEMERAL else _EPHEMERAL.start
            if not taken(self._ports):
                return self._ports
        raise _error(EADDRINUSE)


def _error(errno: int) -> OSError:
    return OSError(errno, os.strerror(errno))
