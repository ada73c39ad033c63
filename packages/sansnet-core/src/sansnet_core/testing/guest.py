"""The network stack of a simulated guest, with a TCP of its own."""

from __future__ import annotations

import math
import struct

from sansnet_core.testing import packets
from sansnet_core.testing.connection import GuestConnection
from sansnet_core.testing.packets import SYN, TCP, UDP, Ip, Segment
from sansnet_core.testing.tcp_options import GuestTcpOptions

__all__ = ["GuestStack"]


class GuestStack:
    """The network stack of a simulated guest: frames in, frames out. It knows no DHCP and no ARP.

    Args:
        mac: the MAC address of the guest, 6 bytes.
        ipv4, ipv6: its addresses, 4 and 16 bytes.
        gateway_mac: the MAC address to which it sends everything.
        vnet: frames have a `virtio_net_hdr` (`LinkConfig.vnet_header`).

    Attributes:
        connections: TCP connections by local address, local port, remote address and remote port.
        listening: how connections to a port are accepted; others are left to the test, in `strays`.
        accepted: connections that outsiders opened; a test may empty it.
        strays: segments that belong to no connection. No RST answers them.
        datagrams: UDP datagrams: packet, source port, destination port, data.
        others: all other frames.
        max_frame_size: bytes of the largest frame.
        segmented_frames: how many frames were left to the guest to segment.
    """

    def __init__(
        self,
        *,
        mac: bytes = bytes.fromhex("020000000001"),
        ipv4: bytes = bytes((10, 0, 2, 15)),
        ipv6: bytes = bytes.fromhex("20010db8000000000000000000000015"),
        gateway_mac: bytes = bytes.fromhex("9a559a559a55"),
        vnet: bool = False,
    ) -> None:
        self.mac, self.ipv4, self.ipv6, self.gateway_mac, self.vnet = mac, ipv4, ipv6, gateway_mac, vnet
        self.connections: dict[tuple[bytes, int, bytes, int], GuestConnection] = {}
        self.accepted: list[GuestConnection] = []
        self.strays: list[Segment] = []
        self.datagrams: list[tuple[Ip, int, int, bytes]] = []
        self.others: list[packets.ReadFrame] = []
        self.max_frame_size = 0
        self.segmented_frames = 0
        self.listening: dict[int, GuestTcpOptions] = {}
        self._frames: list[bytes] = []
        self._next_port = 40000

    def address(self, size: int) -> bytes:
        """The guest's address of this length in bytes."""
        return self.ipv4 if size == 4 else self.ipv6

    def connect(
        self,
        remote: tuple[bytes, int],
        options: GuestTcpOptions | None = None,
        *,
        port: int | None = None,
        now: float = 0.0,
    ) -> GuestConnection:
        """Open a connection; the SYN is among the next frames.

        Args:
            remote: the address as 4 or 16 bytes, and the port.
            options: the abilities of its TCP.
            port: the local port; None takes one that no connection had.
            now: the time in seconds.
        """
        if port is None:
            self._next_port += 1
            port = self._next_port
        local = (self.address(len(remote[0])), port)
        connection = GuestConnection(self, local, remote, options or GuestTcpOptions(), now)
        self.connections[(*local, *remote)] = connection
        return connection

    # Out

    def send_segment(self, segment: Segment, gso_size: int = 0) -> None:
        """Send a TCP segment; one longer than `gso_size` as an offloaded frame."""
        connection = self.connections.get(
            (segment.source, segment.source_port, segment.destination, segment.destination_port)
        )
        partial = self.vnet and connection is not None and connection.options.partial
        large = bool(self.vnet and gso_size and len(segment.payload) > gso_size)
        if not (partial or large):
            self.send(segment.ip())
            return
        ip = Ip(segment.source, segment.destination, TCP, segment.emit(right_checksum=False))
        start = 34 if ip.version == 4 else 54
        gso_type = 0 if not large else 1 if ip.version == 4 else 4
        header_size = start + 20 + len(segment.options()) if large else 0
        head = struct.pack("<BBHHHHH", 1, gso_type, header_size, gso_size if large else 0, start, 16, 0)
        self._frames.append(head + self._ethernet(ip))

    def send(self, ip: Ip) -> None:
        """Send an IP packet to the gateway."""
        self.send_frame(self._ethernet(ip))

    def send_frame(self, frame: bytes) -> None:
        """Send a frame as it is; it gets an empty offload header where the link has them."""
        self._frames.append(bytes(12) + frame if self.vnet else frame)

    def _ethernet(self, ip: Ip) -> bytes:
        ethertype = packets.IPV4 if ip.version == 4 else packets.IPV6
        return packets.ethernet(self.gateway_mac, self.mac, ethertype, ip.emit())

    def take_frames(self) -> list[bytes]:
        """The frames that the guest sends at the current time."""
        for connection in self.connections.values():
            connection.output(self._now)
        frames, self._frames = self._frames, []
        return frames

    _now = 0.0

    def at(self, now: float) -> None:
        """Set the time, for output that no received frame causes."""
        self._now = now

    # In

    def receive(self, frame: bytes | memoryview | tuple[bytes, bytes | memoryview], now: float) -> None:
        """Take one frame from the network, checking all of it.

        Raises:
            AssertionError: no correct network would have sent it.
        """
        self._now = now
        read = packets.read_frame(frame, vnet=self.vnet)
        assert read.source == self.gateway_mac
        assert read.destination == self.mac or read.destination[0] & 1, "a frame for another guest"
        self.max_frame_size = max(self.max_frame_size, read.size)
        self.segmented_frames += bool(read.gso_type)
        if read.ethertype == packets.ARP:
            self.others.append(read)
            return
        ip = packets.read_ip(read)
        if ip.protocol == TCP:
            assert ip.destination in (self.ipv4, self.ipv6)
            for segment in packets.read_segments(ip, read.gso_size):
                self._receive_segment(segment, now)
        elif ip.protocol == UDP and ip.fragment & 0x3FFF == 0:
            self._receive_datagrams(ip, read.gso_size)
        else:
            self.others.append(read)

    def _receive_segment(self, segment: Segment, now: float) -> None:
        key = (segment.destination, segment.destination_port, segment.source, segment.source_port)
        connection = self.connections.get(key)
        if connection is not None:
            connection.receive(segment, now)
        elif segment.flags == SYN and segment.destination_port in self.listening:
            self._accept(segment, now)
        else:
            self.strays.append(segment)

    def _accept(self, syn: Segment, now: float) -> None:
        assert syn.mss is not None
        local, remote = (syn.destination, syn.destination_port), (syn.source, syn.source_port)
        options = self.listening[syn.destination_port]
        connection = GuestConnection(self, local, remote, options, now, syn)
        self.connections[(*local, *remote)] = connection
        self.accepted.append(connection)

    def _receive_datagrams(self, ip: Ip, gso_size: int) -> None:
        source_port, destination_port, size = struct.unpack_from("!HHH", ip.payload)
        assert size == len(ip.payload), "UDP length"
        data = ip.payload[8:]
        step = gso_size or max(1, len(data))
        for start in range(0, max(1, len(data)), step):
            self.datagrams.append((ip, source_port, destination_port, data[start : start + step]))

    # Time

    def next_deadline(self) -> float | None:
        """The time when `handle_deadline` must be called; None if it need not be."""
        deadline = min((one.next_deadline() for one in self.connections.values()), default=math.inf)
        return None if deadline == math.inf else deadline

    def handle_deadline(self, now: float) -> None:
        """Do whatever is due in all connections."""
        self._now = now
        for connection in self.connections.values():
            connection.handle_deadline(now)
