"""Invariants when memory is short:

- once the cable loses nothing and every host reads, every stream finishes in bounded time, complete and in order;
- a stream that was refused a budget is resumed as soon as it has one;
- the bytes held stay within the limit and the reserve of each connection, and are 0 at the end.
"""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sansnet_core import Limits, LinkConfig
from sansnet_core.proto.tcp.memory import RESERVE
from sansnet_core.testing import GuestTcpOptions, HostScript, Impairment, Pair, make_config

_PLAIN = LinkConfig(mtu=1500, max_frame_size=1514)
_LARGE = LinkConfig(mtu=65520, max_frame_size=65535)
_MAX_TIME = 900.0
"""Virtual seconds: a few times the longest retransmission timeout, 60 s."""

limits = st.builds(
    Limits,
    tcp_memory=st.sampled_from([1, 100, 1460, 5000, 20_000, 100_000, 512 << 20]),
    tcp_window=st.sampled_from([1, 100, 2000, 65536, 4 << 20]),
    tcp_send_buffer=st.sampled_from([1, 4000, 4 << 20]),
    tcp_reassembly_segments=st.sampled_from([1, 8, 256]),
    tcp_linger=st.just(300.0),  # longer than three retransmission timeouts of 60 s: two frames in a row may be lost
)
bad = st.builds(
    Impairment,
    loss=st.sampled_from([0.0, 0.1, 0.4]),
    longest_loss=st.just(2),  # no limit of retransmissions is reached
    reorder=st.sampled_from([0.0, 0.5]),
    delay=st.sampled_from([0.0, 0.01]),
)
guests = st.builds(
    GuestTcpOptions,
    mss=st.sampled_from([536, 1460, 60_000]),
    window=st.sampled_from([700, 65535, 1 << 20]),
    scale=st.sampled_from([None, 7]),
    sack=st.booleans(),
    sequence=st.sampled_from([0, 0xFFFFFF00]),
)


@pytest.mark.slow
@settings(max_examples=150)
@given(
    link=st.sampled_from([_PLAIN, _LARGE]),
    bounds=limits,
    up=bad,
    down=bad,
    ends=st.lists(guests, min_size=1, max_size=6),
    sizes=st.tuples(st.sampled_from([0, 1, 2000, 60_000]), st.sampled_from([0, 1, 2000, 60_000])),
    pause=st.sampled_from([0.0, 1.0, 20.0]),
    seed=st.integers(0, 1 << 16),
)
@example(  # data beyond gaps took the memory for the data that fills them
    link=_PLAIN,
    bounds=Limits(tcp_memory=20_000, tcp_linger=300.0),
    up=Impairment(loss=0.4),
    down=Impairment(),
    ends=[GuestTcpOptions()] * 6,
    sizes=(60_000, 0),
    pause=20.0,
    seed=0,
)
def test_every_stream_finishes_once_hosts_read(
    link: LinkConfig,
    bounds: Limits,
    up: Impairment,
    down: Impairment,
    ends: list[GuestTcpOptions],
    sizes: tuple[int, int],
    pause: float,
    seed: int,
) -> None:
    warm_up = bytes(100_000)  # so that the guest's congestion window grows
    if bounds.tcp_memory < 1460 or bounds.tcp_window < 2000:
        sizes = (min(sizes[0], 200), min(sizes[1], 200))  # a byte at a time takes long
        warm_up = b""
    random = Random(seed)
    to_host, to_guest = random.randbytes(sizes[0]), random.randbytes(sizes[1])
    pair = Pair(make_config(link, bounds), HostScript(), seed=seed)
    bound = bounds.tcp_memory + len(ends) * (RESERVE + max(sizes) + 1460)  # the last one is for a budget of one segment
    connections = [pair.connect(one) for one in ends]
    for connection in connections:
        connection.send(warm_up)
    pair.drive(lambda: all(connection.everything_acknowledged for connection in connections))
    pair.up.become(up)
    pair.down.become(down)
    pair.host.script.accept = 700
    for stream in pair.host.streams.values():
        pair.host.produce(stream, to_guest)
        pair.host.end(stream)
    for connection in connections:
        connection.send(to_host)
        connection.shutdown()
    for _ in range(20):
        for stream in pair.host.streams.values():
            stream.blocked = random.random() < 0.8
        pair.wait(pause / 20)
        assert pair.network.statistics().tcp_held <= bound

    pair.up.become(Impairment())
    pair.down.become(Impairment())
    pair.host.script.accept = None
    for stream in pair.host.streams.values():
        stream.blocked = False
    pair.drive(lambda: all(connection.closed for connection in connections), limit=_MAX_TIME)
    pair.wait(1.0)

    assert [bytes(connection.received) for connection in connections] == [to_guest] * len(ends)
    assert [bytes(stream.received) for stream in pair.host.streams.values()] == [warm_up + to_host] * len(ends)
    assert not any(connection.reset for connection in connections)
    pair.wait(301.0)
    assert (pair.network.statistics().tcp_held, pair.tcp_flows) == (0, 0)
