"""Frames of a hostile guest while the program serves and decides: nothing raises, and what is held stays bounded."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sansnet_core import Action, Allow, DecideFlow, Drop, Endpoint, Limits, Network, Prefix, Refuse, Serve, Verdict
from sansnet_core.records import replace
from sansnet_core.testing import SECRET, make_config
from sansnet_core.testing.packets import glue, read_frame, read_ip
from tests.fuzz.corpus import frames
from tests.fuzz.harness import fix_ipv4_checksum

_FRAMES = frames()
_LIMITS = Limits(undecided_flows=3, udp_flows=5, echo_flows=3, tcp_flows=5, decision_time=10)
_VERDICTS: list[Verdict] = [Allow(), Allow(Endpoint("::1", 9)), Refuse(), Drop(), Serve()]
_CHANGES = st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=4)
_STEPS = st.lists(
    st.tuples(
        st.sampled_from(sorted(_FRAMES)),
        _CHANGES,
        st.sampled_from([None, *_VERDICTS]),
        st.sampled_from([0.0, 0.5, 15.0]),
    ),
    min_size=1,
    max_size=12,
)


@pytest.mark.slow
@settings(max_examples=300)
@given(steps=_STEPS, served=st.booleans())
def test_mutated_frames_of_flows_that_are_asked_about(
    steps: list[tuple[str, list[tuple[int, int]], Verdict | None, float]], served: bool
) -> None:
    config = replace(make_config(limits=_LIMITS), virtual=("10.9.0.0/16", "192.0.2.0/28"), default_action=Action.ASK)
    now = 1000.0
    network = Network(config, now=now, secret=SECRET)
    if served:
        for protocol in (6, 17):
            network.service_added(protocol, None, None, now)
            network.service_added(protocol, Prefix.of("::/0"), 53, now)
    questions: list[DecideFlow] = []
    for name, changes, verdict, pause in steps:
        frame = bytearray(_FRAMES[name])
        for place, value in changes if frame else ():
            frame[place % len(frame)] = value
        network.receive_frames([fix_ipv4_checksum(bytes(frame))], now)
        while orders := network.take_orders():
            questions += [order for order in orders if isinstance(order, DecideFlow)]
        if verdict is not None and questions:
            network.flow_decided(questions.pop().socket, verdict, now)
        end = now + pause
        while (deadline := network.next_deadline()) is not None and deadline <= end:
            now = max(now, deadline)
            network.handle_deadline(now)
        now = end
        for sent in network.take_frames():
            read = read_frame(glue(sent), vnet=False)
            if read.ethertype in (0x0800, 0x86DD):
                read_ip(read)
        waiting = [flow for flow in network.flows() if flow.state == "UNDECIDED"]
        assert len(waiting) <= 3 * _LIMITS.undecided_flows
