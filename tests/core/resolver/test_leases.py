"""Own addresses of names: one for each, never another name's while anything might hold it; bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sansnet_core.addresses import Prefix, format
from sansnet_core.resolver.leases import Leases

PREFIX4, PREFIX6 = Prefix("198.18.0.0/24"), Prefix("fd00::/64")


def leases(limit: int = 100, prefix4: Prefix = PREFIX4) -> Leases:
    return Leases(prefix4, PREFIX6, limit)


def number(made: Leases, name: str) -> int:
    lease = made.give(name)
    assert lease is not None
    return lease.number


def test_a_name_keeps_its_addresses() -> None:
    made = leases()
    lease = made.give("a")
    assert lease is not None
    assert made.give("a") is lease
    assert [format(made.address(lease, size)) for size in (4, 16)] == ["198.18.0.1", "fd00::1"]
    assert made.find(made.address(lease, 4)) is made.find(made.address(lease, 16)) is lease


def test_addresses_without_a_lease_are_ours_but_no_name() -> None:
    made = leases()
    made.give("a")
    for address in (bytes((198, 18, 0, 0)), bytes((198, 18, 0, 2)), bytes((198, 18, 0, 255))):
        assert made.contains(address)
        assert made.find(address) is None
    assert not made.contains(bytes((198, 18, 1, 1)))
    assert made.find(bytes((198, 18, 1, 1))) is None


def test_an_address_is_used_again_as_late_as_possible() -> None:
    made = leases(limit=2)
    seen = [number(made, f"n{n}") for n in range(254)]
    assert seen == list(range(1, 255))
    assert number(made, "next") == 1


def test_the_least_recently_used_name_loses_its_lease_at_the_limit() -> None:
    made = leases(limit=3)
    for name in "abc":
        made.give(name)
    made.give("a")
    made.give("d")
    assert [made.find(bytes((198, 18, 0, n))) is None for n in (1, 2, 3, 4)] == [False, True, False, False]


def test_a_name_with_an_open_flow_keeps_its_lease() -> None:
    made = leases(limit=2)
    for name in "ab":
        lease = made.give(name)
        assert lease is not None
        lease.pins = 1
    assert made.give("c") is None
    assert made.give("a") is not None


def test_a_small_prefix_is_a_limit_of_its_own() -> None:
    made = leases(prefix4=Prefix("198.18.0.0/30"))
    assert [number(made, name) for name in "ab"] == [1, 2]
    assert number(made, "c") == 1
    assert len(made) == 2


class Machine(RuleBasedStateMachine):
    """Names come, flows open and end; pinned addresses always lead to their names."""

    def __init__(self) -> None:
        super().__init__()
        self.made = leases(limit=4, prefix4=Prefix("198.18.0.0/29"))
        self.flows: list[tuple[bytes, str]] = []
        self.given: dict[int, str] = {}

    @rule(name=st.sampled_from("abcdefghij"), size=st.sampled_from([4, 16]))
    def ask(self, name: str, size: int) -> None:
        lease = self.made.give(name)
        if lease is None:
            assert len({flow[1] for flow in self.flows}) == 4
            return
        assert self.made.find(self.made.address(lease, size)) is lease
        lease.pins += 1
        self.flows.append((self.made.address(lease, size), name))

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        if self.flows:
            address, _ = self.flows.pop(data.draw(st.integers(0, len(self.flows) - 1)))
            lease = self.made.find(address)
            assert lease is not None
            lease.pins -= 1

    @invariant()
    def flows_lead_to_their_names(self) -> None:
        assert len(self.made) <= 4
        for address, name in self.flows:
            lease = self.made.find(address)
            assert lease is not None
            assert lease.name == name


TestLeases = Machine.TestCase


@given(st.lists(st.text("abc", min_size=1, max_size=3), max_size=50), st.integers(1, 10))
def test_two_names_never_share_an_address(names: list[str], limit: int) -> None:
    made = leases(limit=limit)
    for name in names:
        lease = made.give(name)
        assert lease is not None
        assert lease.name == name
    held = [made.find(bytes((198, 18, 0, n))) for n in range(256)]
    assert len({lease.name for lease in held if lease}) == len(made) <= limit
