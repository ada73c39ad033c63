"""A network that is pickled or copied at any moment goes on exactly as the original."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from random import Random
from typing import Any, Final, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize

from sansnet_core import Limits, LinkConfig, Network
from sansnet_core.testing import OUTSIDER, GuestTcpOptions, HostScript, Impairment, Pair, ScriptedHost, make_config
from sansnet_core.testing.packets import glue
from tests.fuzz.test_operations import LINKS, Operations

WAYS: Final[dict[str, Callable[[Network], Network]]] = {
    "pickle": lambda network: pickle.loads(pickle.dumps(network)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


class Twins:
    """A network and its latest copy. Every input goes to both, and both must give the same outputs.

    Args:
        network: the network.
        way: makes a copy.
        every: inputs between two copies. The copies take turns: each is made of the one before.
    """

    def __init__(self, network: Network, way: Callable[[Network], Network], every: int) -> None:
        self._one = self._other = network
        self._way = way
        self._every = every
        self._inputs = 0
        self.copies = 0

    def __getattr__(self, name: str) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            if self._inputs % self._every == 0:
                self._one, self._other = self._other, self._way(self._other)
                self.copies += 1
            self._inputs += 1
            result = getattr(self._one, name)(*given, **named)
            assert _plain(getattr(self._other, name)(*given, **named)) == _plain(result)
            return result

        return call


def _plain(result: Any) -> Any:
    """A result that can be compared: large frames are tuples of bytes and views."""
    if not isinstance(result, list):
        return result
    return [glue(each) if isinstance(each, tuple | memoryview) else each for each in result]


def twins_of(network: Network, way: str, every: int = 1) -> tuple[Network, Twins]:
    """A network and its copies, once as the pair uses them."""
    twins = Twins(network, WAYS[way], every)
    return cast(Network, twins), twins


@pytest.mark.slow
@settings(max_examples=40)
@given(
    way=st.sampled_from(list(WAYS)),
    every=st.sampled_from([1, 7, 40]),
    inbound=st.booleans(),
    link=st.sampled_from(
        [
            LinkConfig(mtu=1500, max_frame_size=1514),
            LinkConfig(mtu=65520),
            LinkConfig(
                mtu=1500, max_frame_size=65549, vnet_header=True, checksum_offload=True, tso4=True, tso6=True, uso=True
            ),
        ]
    ),
    family=st.sampled_from([4, 6]),
    bad=st.builds(
        Impairment,
        loss=st.sampled_from([0.0, 0.1]),
        duplicate=st.sampled_from([0.0, 0.1]),
        reorder=st.sampled_from([0.0, 0.3]),
        delay=st.sampled_from([0.0, 0.01]),
    ),
    script=st.builds(
        HostScript,
        connect=st.sampled_from([0, 0, 0, 111, 113]),
        connect_delay=st.sampled_from([0.0, 0.2]),
        accept=st.sampled_from([None, 700]),
        read=st.sampled_from([1000, 1 << 16]),
        echo=st.booleans(),
        produce=st.binary(max_size=8).map(lambda data: data * 1000),
        end=st.booleans(),
    ),
    window=st.sampled_from([2000, 4 << 20]),
    size=st.sampled_from([0, 1, 9000]),
    abort=st.booleans(),
    seed=st.integers(0, 1 << 16),
)
def test_connections_go_on_with_a_copy(
    way: str,
    every: int,
    inbound: bool,
    link: LinkConfig,
    family: int,
    bad: Impairment,
    script: HostScript,
    window: int,
    size: int,
    abort: bool,
    seed: int,
) -> None:
    pair = Pair(make_config(link, Limits(tcp_window=window)), script, up=bad, down=bad, seed=seed)
    pair.network, twins = twins_of(pair.network, way, every)
    pair.host = ScriptedHost(pair.network, script)
    if inbound:
        pair.guest.listening[80] = GuestTcpOptions()
        pair.host.accept(OUTSIDER, 80, pair.now)
    else:
        connection = pair.connect(family=family)
        connection.send(Random(seed).randbytes(size))
        if abort:
            pair.wait(0.3)
            connection.abort(pair.now)
        else:
            connection.shutdown()
    pair.wait(20.0)

    assert twins.copies


class CopiedOperations(Operations):
    """The same operations; each input goes to a copy of the network, too."""

    @initialize(
        link=st.sampled_from(LINKS),
        connect=st.sampled_from([0, 0, 0, 111, None]),
        way=st.sampled_from(list(WAYS)),
        every=st.sampled_from([1, 7, 40]),
        asks=st.booleans(),
    )
    def start_with_copies(self, link: LinkConfig, connect: int | None, way: str, every: int, asks: bool) -> None:
        self.start(link, connect, asks=asks)
        self.harness.network, _ = twins_of(self.harness.network, way, every)
        self.harness.host = ScriptedHost(self.harness.network, HostScript(connect=connect))


CopiedOperations.TestCase.settings = settings(max_examples=15, stateful_step_count=30)
TestCopiedOperations = pytest.mark.slow(CopiedOperations.TestCase)
