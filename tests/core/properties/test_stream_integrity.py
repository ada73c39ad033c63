"""Each stream arrives in order and complete, however bad the cable and however slow the ends."""

from __future__ import annotations

from functools import partial
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sansnet_core import Endpoint, Limits, LinkConfig
from sansnet_core.testing import (
    OUTSIDER,
    OUTSIDER6,
    GuestConnection,
    GuestTcpOptions,
    HostScript,
    HostStream,
    Impairment,
    Pair,
    make_config,
)

_PLAIN = LinkConfig(mtu=1500, max_frame_size=1514)
_OFFLOAD = LinkConfig(mtu=1500, max_frame_size=65549, vnet_header=True, checksum_offload=True, tso4=True, tso6=True)
_LARGE = LinkConfig(mtu=65520, max_frame_size=65535)

_LINGERING = make_config(limits=Limits(tcp_linger=300.0))

impairments = st.builds(
    Impairment,
    loss=st.sampled_from([0.0, 0.01, 0.1, 0.3]),
    longest_loss=st.just(2),  # no limit of retransmissions is reached
    duplicate=st.sampled_from([0.0, 0.1, 0.5]),
    reorder=st.sampled_from([0.0, 0.1, 0.5]),
    delay=st.sampled_from([0.0, 0.001, 0.05]),
    hold=st.sampled_from([0.0005, 0.003, 0.1]),
)
guests = st.builds(
    GuestTcpOptions,
    mss=st.sampled_from([536, 1400, 1460]),
    window=st.sampled_from([700, 4000, 65535, 1 << 20]),
    scale=st.sampled_from([None, 0, 5, 8]),
    sack=st.booleans(),
    delayed_ack=st.sampled_from([0.0, 0.04]),
    sequence=st.sampled_from([0, 1, 0x7FFFFF00, 0xFFFFFF00, 0xFFFFFFFF]),
)
scripts = st.builds(
    HostScript,
    connect_delay=st.sampled_from([0.0, 0.2, 4.0]),
    accept=st.sampled_from([None, 700, 5000]),
    accept_interval=st.sampled_from([0.001, 0.02]),
    read=st.sampled_from([1000, 1 << 16]),
)
limits = st.builds(
    Limits,
    tcp_window=st.sampled_from([2000, 65536, 4 << 20]),
    tcp_send_buffer=st.sampled_from([4000, 4 << 20]),
    tcp_reassembly_segments=st.sampled_from([1, 8, 256]),
    tcp_linger=st.just(300.0),  # longer than three retransmission timeouts of 60 s: two frames in a row may be lost
)


def _is_decided(pair: Pair, stream: HostStream) -> bool:
    return stream.closed or any(one.established for one in pair.guest.connections.values())


def _accepted(pair: Pair, outsider: Endpoint) -> GuestConnection:
    """A connection from outside, tried again if the cable lost all its SYNs or their answers."""
    while True:
        stream = pair.host.accept(outsider, 80, pair.now)
        assert stream is not None
        pair.drive(partial(_is_decided, pair, stream))
        if not stream.closed:
            return next(one for one in pair.guest.connections.values() if one.established)
        outsider = outsider._replace(port=outsider.port + 1)


def _data(size: int, seed: int) -> bytes:
    return Random(seed).randbytes(size)


@pytest.mark.slow
@settings(max_examples=200)
@given(
    inbound=st.booleans(),
    link=st.sampled_from([_PLAIN, _OFFLOAD, _LARGE]),
    family=st.sampled_from([4, 6]),
    up=impairments,
    down=impairments,
    guest=guests,
    script=scripts,
    bounds=limits,
    sizes=st.tuples(st.sampled_from([0, 1, 3000, 30_000]), st.sampled_from([0, 1, 3000, 30_000])),
    seed=st.integers(0, 1 << 16),
)
@example(
    inbound=False,
    link=_PLAIN,
    family=4,
    up=Impairment(loss=0.3, duplicate=0.1, reorder=0.3),
    down=Impairment(loss=0.3, duplicate=0.1, reorder=0.3),
    guest=GuestTcpOptions(sequence=0xFFFFF000),
    script=HostScript(),
    bounds=Limits(tcp_linger=300.0),
    sizes=(30_000, 30_000),
    seed=1,
)
def test_both_streams_arrive_whole(
    inbound: bool,
    link: LinkConfig,
    family: int,
    up: Impairment,
    down: Impairment,
    guest: GuestTcpOptions,
    script: HostScript,
    bounds: Limits,
    sizes: tuple[int, int],
    seed: int,
) -> None:
    to_host, to_guest = _data(sizes[0], seed), _data(sizes[1], seed + 1)
    script.produce, script.end = to_guest, True
    pair = Pair(make_config(link, bounds), script, up=up, down=down, seed=seed)
    if inbound:
        pair.guest.listening[80] = guest
        connection = _accepted(pair, OUTSIDER if family == 4 else OUTSIDER6)
    else:
        connection = pair.connect(guest, family=family)
    connection.send(to_host)
    connection.shutdown()
    pair.drive(lambda: connection.closed and pair.host.stream.shutdown, limit=20_000.0)

    assert bytes(pair.host.stream.received) == to_host
    assert bytes(connection.received) == to_guest
    assert not connection.reset
    lossless = not (up.loss or down.loss or up.reorder or down.reorder)
    if lossless and up.delay + down.delay < 0.05 and script.connect_delay < 1.0:
        assert connection.retransmissions == 0


@pytest.mark.slow
@settings(max_examples=60)
@given(
    chunks=st.lists(st.integers(1, 5000), min_size=1, max_size=20),
    pauses=st.lists(st.sampled_from([0.0, 0.0001, 0.001, 0.01, 0.3, 5.0]), min_size=1, max_size=5),
    batch=st.integers(1, 5),
    echo=scripts,
)
def test_any_chunking_gives_the_same_stream(
    chunks: list[int], pauses: list[float], batch: int, echo: HostScript
) -> None:
    echo.echo = True
    pair = Pair(script=echo)
    pair.batch = batch
    connection = pair.connect()
    data = _data(sum(chunks), 7)
    sent = 0
    for number, size in enumerate(chunks):
        connection.send(data[sent : sent + size])
        sent += size
        pair.wait(pauses[number % len(pauses)])
    connection.shutdown()
    pair.drive(lambda: connection.closed)

    assert bytes(connection.received) == data
    assert bytes(pair.host.stream.received) == data
    syns = 0 if echo.connect_delay < 1.0 else 2
    assert connection.retransmissions <= syns


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_a_larger_stream_survives_thirty_percent_of_loss(seed: int) -> None:
    bad = Impairment(loss=0.3, duplicate=0.05, reorder=0.2, delay=0.002)
    pair = Pair(_LINGERING, HostScript(echo=True), up=bad, down=bad, seed=seed)
    connection = pair.connect(GuestTcpOptions(sack=bool(seed % 2), window=200_000))
    data = _data(200_000, seed)
    connection.send(data)
    connection.shutdown()
    pair.drive(lambda: connection.closed, limit=20_000.0)

    assert bytes(connection.received) == data
    assert bytes(pair.host.stream.received) == data


@pytest.mark.slow
def test_many_streams_at_once_under_loss_do_not_mix() -> None:
    bad = Impairment(loss=0.1, duplicate=0.1, reorder=0.3, delay=0.001)
    pair = Pair(_LINGERING, HostScript(echo=True), up=bad, down=bad, seed=3)
    connections = [pair.connect(family=4 + 2 * (number % 2)) for number in range(50)]
    texts = [_data(3000 + number, number) for number in range(50)]
    for connection, text in zip(connections, texts, strict=True):
        connection.send(text)
        connection.shutdown()
    pair.drive(lambda: all(connection.closed for connection in connections), limit=20_000.0)

    assert [bytes(connection.received) for connection in connections] == texts
