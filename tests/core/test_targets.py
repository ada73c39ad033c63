"""Targets are kept, and found again when another configuration counts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sansnet_core import Endpoint, Network
from sansnet_core.policy import Action, Rule
from sansnet_core.records import replace
from sansnet_core.testing import SECRET, make_config
from sansnet_core.wire.ip import TCP, UDP

ADDRESSES = [bytes((203, 0, 113, number)) for number in range(3)] + [bytes((127, 0, 0, 1)), bytes((224, 0, 0, 9))]
RULES = [[Rule(action=action, destinations=(f"203.0.113.{number}/32",))] for number, action in enumerate(Action)]
ASKED = st.tuples(
    st.sampled_from([TCP, UDP]),
    st.builds(Endpoint, st.sampled_from(ADDRESSES), st.sampled_from([53, 80])),
    st.booleans(),
    st.booleans(),
)


@given(steps=st.lists(st.one_of(ASKED, st.integers(0, len(RULES) - 1)), max_size=30))
def test_a_target_is_that_of_the_present_configuration(steps: list[tuple[int, Endpoint, bool, bool] | int]) -> None:
    config = make_config()
    network = Network(config, now=0.0, secret=SECRET)
    targets = network._context.targets
    for step in steps:
        if isinstance(step, int):
            network.reconfigure(replace(config, rules=RULES[step]), 0.0)
            continue
        protocol, remote, groups, allowed = step
        fresh = Network(network._context.config, now=0.0, secret=SECRET)._context.targets
        expected = fresh.find(protocol, remote, groups=groups, allowed=allowed)
        for _ in range(2):
            assert targets.find(protocol, remote, groups=groups, allowed=allowed) == expected


def test_without_names_nothing_is_resolved_and_nothing_keeps_its_name() -> None:
    targets = Network(make_config(), now=0.0, secret=SECRET)._context.targets
    remote = Endpoint(ADDRESSES[0], 80)
    done: list[bool] = []
    targets.pin(remote)
    targets.wait(remote, lambda: done.append(True))
    targets.unpin(remote, lambda: done.append(True))
    assert targets.name(remote) is None
    assert done == []


def test_a_guest_that_scans_a_network_does_not_fill_memory() -> None:
    targets = Network(make_config(), now=0.0, secret=SECRET)._context.targets
    for number in range(5000):
        assert targets.find(TCP, Endpoint(bytes((203, 0, number >> 8, number & 255)), 80)) is not None
    assert len(targets._known) <= 256
