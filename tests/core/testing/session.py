"""A network of any configuration whose outputs are all read and checked.

Invariants: no frame raises; an independent reader finds each frame of the network well-formed, and within the link and
its MTU; orders are legal; flows and sockets stay within the limits; after a long silence nothing is left.
"""

from __future__ import annotations

from collections.abc import Iterable

from sansnet_core import Endpoint, ExtendedError, Network, NetworkConfig, Verdict
from sansnet_core.testing import SECRET, HostScript, ScriptedHost
from sansnet_core.testing.packets import ARP, IPV4, IPV6, TCP, glue, read_frame, read_ip, read_segments

__all__ = ["Session"]

_MAX_ROUNDS = 1000
_MAX_DEADLINES = 3000


class Session:
    """A network, and a host that answers all that it is asked.

    Args:
        config: of the network.
        script: the behaviour of the host's streams.
        verdict: the answer to questions about flows; None for no answer.
    """

    def __init__(self, config: NetworkConfig, script: HostScript | None = None, verdict: Verdict | None = None) -> None:
        self.config = config
        self.now = 0.0
        self.network = Network(config, now=self.now, secret=SECRET)
        self.host = ScriptedHost(self.network, script)
        self.received: list[bytes] = []
        self._verdict = verdict

    def receive(self, frames: Iterable[bytes]) -> None:
        """Frames from the guest."""
        self.network.receive_frames(frames, self.now)
        self.outputs()

    def outputs(self) -> None:
        """Take and check everything, and let the host answer."""
        for _ in range(_MAX_ROUNDS):
            frames = [glue(frame) for frame in self.network.take_frames()]
            for frame in frames:
                self.check(frame)
            self.received += frames
            orders = self.network.take_orders()
            self.host.obey(orders, self.now)
            reported = self.host.report(self.now)
            for socket in list(self.host.questions) if self._verdict is not None else ():
                assert self._verdict is not None
                self.host.decide(socket, self._verdict, self.now)
                reported = True
            self.network.take_notices()
            if not (orders or frames or reported):
                break
        else:
            raise AssertionError("outputs without an end")
        self.check_limits()

    def check_limits(self) -> None:
        """Check what is held against the limits of the configuration."""
        limits, statistics, host = self.config.limits, self.network.statistics(), self.host
        own_streams = limits.name_streams + len(self.config.proxies) * limits.udp_flows + 2 * limits.name_questions
        open_streams = len(host.streams) - len(host.closed & host.streams.keys())
        assert open_streams <= limits.tcp_flows + own_streams
        assert statistics.flows["tcp_flows"] <= limits.tcp_flows + limits.name_streams
        assert statistics.flows["udp_flows"] <= limits.udp_flows + limits.udp_inbound_flows
        assert len(host.echo_sockets) <= limits.echo_flows
        assert len(host.questions) <= 3 * limits.undecided_flows
        in_order = statistics.flows["tcp_flows"] * 2 * (16 << 10)
        assert 0 <= statistics.tcp_held <= limits.tcp_memory + in_order
        for stream in host.streams.values():
            assert stream.closed or len(stream.unsent) <= max(limits.tcp_window, 16 << 10)

    def check(self, frame: bytes) -> None:
        """Check that a frame from the network is well-formed."""
        link = self.config.link
        read = read_frame(frame, vnet=link.vnet_header)
        assert read.size <= link.max_frame_size or (read.size == 60 and not link.vnet_header)
        assert read.source == self.config.mac
        assert not (read.partial and not link.checksum_offload), "a partial checksum that the guest cannot complete"
        if read.ethertype == ARP:
            return
        assert read.ethertype in (IPV4, IPV6)
        if read.gso_type:
            assert {1: link.tso4, 4: link.tso6, 5: link.uso}[read.gso_type], "a segmentation that the guest cannot do"
        ip = read_ip(read)
        assert read.gso_type or len(ip.emit()) <= link.mtu, f"a packet of {len(ip.emit())} bytes"
        assert ip.ttl > 0
        for segment in read_segments(ip, read.gso_size) if ip.protocol == TCP else ():
            assert segment.source_port
            assert segment.destination_port

    def answer(self, data: bytes, *, failed: bool) -> None:
        """Something arrives at all datagram and ping sockets."""
        for socket, opened in list(self.host.datagram_sockets.items()):
            size = len(opened.local.address)
            remote = Endpoint(
                bytes((192, 0, 2, 80)) if size == 4 else bytes.fromhex("20010db8ffff" + "00" * 9 + "80"), 53
            )
            sent = [one.remote for one in self.host.datagrams if one.socket == socket]
            remote = sent[-1] if sent else remote
            if failed:
                error = ExtendedError(111, 2 if size == 4 else 3, 3, 3, 0, remote.address)
                self.network.datagram_failed(socket, remote, error, data, self.now)
            else:
                self.network.datagram_received(socket, remote, data, 0, 64, 0, self.now)
            self.outputs()
        for socket, ping in list(self.host.echo_sockets.items()):
            if socket in self.host.closed:
                continue
            if failed:
                error = ExtendedError(113, 2 if len(ping.remote) == 4 else 3, 3, 1, 0, ping.remote)
                self.network.echo_failed(socket, 1, error, data, self.now)
            else:
                self.network.echo_received(socket, ping.remote, 1, data, 64, 0, self.now)
            self.outputs()

    def advance(self, seconds: float) -> None:
        """Let time pass, deadline by deadline."""
        end = self.now + seconds
        for _ in range(_MAX_DEADLINES):
            deadline = self.network.next_deadline()
            if deadline is None or deadline > end:
                break
            self.now = max(self.now, deadline)
            self.network.handle_deadline(self.now)
            self.outputs()
        else:
            raise AssertionError("deadlines without an end")
        self.now = end

    def finish(self) -> None:
        """After a long silence, nothing is left."""
        self.advance(100_000.0)
        host, statistics = self.host, self.network.statistics()
        streams = [stream for stream in host.streams.values() if not stream.closed]
        assert not [*streams, *host.datagram_sockets, *host.echo_sockets, *host.questions]
        assert statistics.tcp_held == 0
        assert statistics.flows["tcp_flows"] == statistics.flows["udp_flows"] == 0
