"""The driver with a real network and a real server on loopback; the test itself plays the guest."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from functools import partial

import trio

from sansnet_core import Frame, LinkConfig, Network, NetworkConfig
from sansnet_core.testing import GATEWAY, SECRET, GuestStack, make_config
from sansnet_core.testing.packets import ACK, SYN, TCP, Segment, ethernet, read_frame, read_ip, read_segments
from sansnet_trio import Driver


class _Link:
    def __init__(self) -> None:
        self.config = LinkConfig(mtu=1500, max_frame_size=1514)
        self.dropped = 0
        self._socket, self.guest = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def read_frames(self, limit: int) -> Sequence[bytes]:
        frames: list[bytes] = []
        try:
            while len(frames) < limit:
                frames.append(self._socket.recv(65536))
        except BlockingIOError:
            pass
        return frames

    def write_frames(self, frames: Sequence[Frame]) -> int:
        for frame in frames:
            self._socket.sendmsg(frame if isinstance(frame, tuple) else [frame])
        return len(frames)

    def close(self) -> None:
        self._socket.close()


def _exchange(guest: GuestStack, end: socket.socket, port: int) -> tuple[float, bytes]:
    """Connect as a guest; the time from the last ACK of the handshake to the server's greeting, and the greeting."""

    def send(segment: Segment) -> None:
        end.send(ethernet(guest.gateway_mac, guest.mac, 0x0800, segment.ip().emit()))

    def receive() -> Segment:
        while True:
            read = read_frame(end.recv(65536), vnet=False)
            if read.ethertype == 0x0800 and (ip := read_ip(read)).protocol == TCP:
                (segment,) = read_segments(ip)
                return segment

    end.settimeout(3)
    mine = partial(Segment, guest.ipv4, 40000, GATEWAY, port)
    send(mine(sequence=1, flags=SYN, mss=1460, scale=7, sack_permitted=True))
    syn_ack = receive()
    time.sleep(0.2)  # the server sends its greeting, and the driver goes to sleep
    send(mine(sequence=2, acknowledgment=(syn_ack.sequence + 1) % (1 << 32), flags=ACK))
    began = time.monotonic()
    while not (segment := receive()).payload:
        pass
    return time.monotonic() - began, segment.payload


def test_a_server_that_speaks_first_is_heard_at_once() -> None:
    """As with SSH and SMTP, where the server speaks first: no frame of the guest wakes the driver."""
    base = make_config()
    config = NetworkConfig(
        link=base.link, ipv4=base.ipv4, map_host_loopback=(GATEWAY,), router_advertisements=False, dhcp=False
    )
    network = Network(config, now=0.0, secret=SECRET)
    link = _Link()
    guest = GuestStack()

    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 hello")
        await trio.sleep_forever()

    async def main() -> tuple[float, bytes]:
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
            await nursery.start(Driver(network, link).run)
            port = listener.socket.getsockname()[1]
            result = await trio.to_thread.run_sync(_exchange, guest, link.guest, port)
            nursery.cancel_scope.cancel()
        return result

    with link.guest:
        delay, greeting = trio.run(main)

    assert greeting == b"220 hello"
    assert delay < 0.1
