"""A network whose outputs are all read and checked.

Invariants: no bytes from the guest make `receive_frames` raise; an independent reader finds all
outputs well-formed; what is held is bounded by the limits.
"""

from __future__ import annotations

from collections.abc import Callable

from sansnet_core import (
    Action,
    Endpoint,
    ExtendedError,
    Limits,
    LinkConfig,
    Network,
    NetworkConfig,
    OpenStream,
    Order,
    Prefix,
    SendDatagram,
    SocketId,
)
from sansnet_core.testing import GATEWAY, SECRET, SERVER, GuestStack, HostScript, ScriptedHost, make_config
from sansnet_core.testing.packets import ARP, TCP, glue, read_frame, read_ip, read_segments

__all__ = ["LIMITS", "LOOPBACK_ALIAS", "VIRTUAL", "Harness", "fix_ipv4_checksum"]

LOOPBACK_ALIAS = bytes((10, 0, 2, 3))
VIRTUAL = Prefix.of("198.18.0.0/15")

LIMITS = Limits(
    tcp_flows=20,
    tcp_pending=10,
    tcp_inbound_flows=12,
    udp_flows=20,
    udp_inbound_flows=15,
    echo_flows=10,
    tcp_window=20_000,
    tcp_send_buffer=20_000,
    tcp_memory=100_000,
    tcp_reassembly_segments=8,
    reassembly_datagrams=8,
    reassembly_fragments=8,
    undecided_flows=5,
)


def _opens_virtual(order: Order) -> bool:
    """Whether an order reaches for an address that exists in the program only."""
    return isinstance(order, OpenStream | SendDatagram) and VIRTUAL.contains(order.remote.address)


def fix_ipv4_checksum(frame: bytes) -> bytes:
    """The frame with a right IPv4 header checksum, so that a changed one gets past it."""
    if len(frame) < 34 or frame[12:14] != b"\x08\x00":
        return frame
    size = (frame[14] & 15) * 4
    if size < 20 or len(frame) < 14 + size:
        return frame
    header = frame[14:24] + bytes(2) + frame[26 : 14 + size]
    total = sum(int.from_bytes(header[at : at + 2], "big") for at in range(0, size, 2))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return frame[:24] + (~total & 0xFFFF).to_bytes(2, "big") + frame[26:]


class Harness:
    """A network whose outputs are checked as they are taken, and then passed to `listen`."""

    def __init__(
        self,
        link: LinkConfig | None = None,
        *,
        connect: int | None = 0,
        asks: bool = False,
        listen: Callable[[bytes], None] = lambda frame: None,
    ) -> None:
        base = make_config(link, LIMITS)
        self.config = NetworkConfig(
            link=base.link,
            guest_mac=base.guest_mac,
            ipv4=base.ipv4,
            ipv6=base.ipv6,
            dns_servers=(GATEWAY,),
            dns_search=("example.org",),
            dns_forward=((GATEWAY, Endpoint(SERVER, 53)),),
            hosts=(("host.example", (LOOPBACK_ALIAS,)), ("asked.example", ())),
            map_host_loopback=(LOOPBACK_ALIAS,),
            limits=LIMITS,
            virtual=(VIRTUAL,),
            default_action=Action.ASK if asks else Action.ALLOW,
            notices=True,
        )
        self._listen = listen
        self.now = 0.0
        self.guest = GuestStack()
        self.network = Network(self.config, now=self.now, secret=SECRET)
        self.host = ScriptedHost(self.network, HostScript(connect=connect))

    def receive(self, *frames: bytes) -> None:
        """Frames from the guest, each behind an empty offload header where the link has them."""
        self.receive_raw(*(bytes(12) + frame if self.config.link.vnet_header else frame for frame in frames))

    def receive_raw(self, *frames: bytes) -> None:
        """Frames from the guest as they are."""
        self.network.receive_frames(frames, self.now)
        self.outputs()

    def outputs(self) -> None:
        """Take and check everything, and let the host answer."""
        for _ in range(1000):
            frames = self.network.take_frames()
            for frame in frames:
                self.check(glue(frame))
                self._listen(glue(frame))
            orders = self.network.take_orders()  # after the frames: making them may bring orders
            assert not any(map(_opens_virtual, orders))
            self.host.obey(orders, self.now)
            reported = self.host.report(self.now)
            self.network.take_notices()
            if not (orders or frames or reported):
                break
        else:
            raise AssertionError("outputs without an end")
        statistics = self.network.statistics()
        assert statistics.flows["tcp_flows"] <= LIMITS.tcp_flows
        assert 0 <= statistics.tcp_held <= LIMITS.tcp_memory + LIMITS.tcp_flows * LIMITS.tcp_window
        assert len(self.host.streams) - len(self.host.closed & self.host.streams.keys()) <= LIMITS.tcp_flows
        assert statistics.flows["udp_flows"] <= LIMITS.udp_flows + LIMITS.udp_inbound_flows
        assert len(self.host.datagram_sockets) <= LIMITS.udp_flows
        assert len(self.host.echo_sockets) <= LIMITS.echo_flows
        assert len(self.host.questions) <= 6 * LIMITS.undecided_flows  # three protocols, two directions

    def check(self, frame: bytes) -> None:
        """Check that a frame from the network is well-formed."""
        link = self.config.link
        read = read_frame(frame, vnet=link.vnet_header)
        assert read.size <= link.max_frame_size
        if read.ethertype == ARP:
            return
        ip = read_ip(read)
        assert read.gso_type or len(read.payload) <= max(link.mtu, 46)
        if ip.protocol == TCP:
            for segment in read_segments(ip, read.gso_size):
                assert segment.source_port or segment.destination_port is not None

    def advance(self, seconds: float) -> None:
        """Let time pass, deadline by deadline."""
        end = self.now + seconds
        for _ in range(2000):
            deadline = self.network.next_deadline()
            if deadline is None or deadline > end:
                break
            self.now = max(self.now, deadline)
            self.network.handle_deadline(self.now)
            self.outputs()
        else:
            raise AssertionError("deadlines without an end")
        self.now = end

    def open_sockets(self) -> list[SocketId]:
        """Datagram and ping sockets."""
        return [*self.host.datagram_sockets, *self.host.echo_sockets]

    def answer(self, socket: SocketId, data: bytes, *, failed: bool = False, size: int = 0) -> None:
        """Something arrives at a datagram or ping socket."""
        error = ExtendedError(111, 2, 3, 3, 0, SERVER)
        datagram = self.host.datagram_sockets.get(socket)
        if datagram is not None:
            address = SERVER if len(datagram.local.address) == 4 else bytes(15) + b"\1"
            if failed:
                self.network.datagram_failed(socket, Endpoint(address, 53), error, data, self.now)
            else:
                self.network.datagram_received(socket, Endpoint(address, 53), data, size, 64, 0, self.now)
        else:
            echo = self.host.echo_sockets[socket]
            if failed:
                self.network.echo_failed(socket, 1, error, data, self.now)
            else:
                self.network.echo_received(socket, echo.remote, 1, data, 64, 0, self.now)
        self.outputs()
