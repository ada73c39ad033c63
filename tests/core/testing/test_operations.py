"""The world of operations notices networks that do wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sansnet_core import Frame, Network, UsageError
from sansnet_core.testing.operations import OPERATIONS, Setting, World, decode, do, encode
from sansnet_core.testing.operations.steps import GuestConnects, GuestTransfers
from sansnet_core.testing.packets import glue
from sansnet_core.testing.strategies import frames
from sansnet_core.testing.strategies.sequences import sequences, settings


class LosesLargeFrames(Network):
    """A network whose large frames never arrive, so that it gives up and resets its connections."""

    def take_frames(self) -> list[Frame]:
        return [frame for frame in super().take_frames() if len(glue(frame)) < 1000]


def test_a_transfer_that_the_network_gives_up_without_a_reason_is_noticed() -> None:
    world = World(Setting().config(), network=LosesLargeFrames)
    do(world, [GuestTransfers(down=3000)])
    with pytest.raises(AssertionError, match="a connection of port 50000 is reset without a reason"):
        world.finish()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: settings(lnk=["ethernet"]), "lnk: there is no such field; the fields are action, check, "),
        (lambda: sequences(remot=["server"]), "remot: there is no such field; the fields are .*, remote, "),
        (
            lambda: sequences(kinds=[GuestConnects], up=[1]),
            "up: there is no such field; the fields are begins, completes, mss, ",
        ),
        (lambda: settings(link=["x"]), "Setting.link: 'x' is none of 'ethernet', 'offload', "),
        (lambda: settings(link="ethernet"), r"link: 'ethernet' is not a list of values; write link=\[...\]"),
        (lambda: settings(link=[]), r"link: \[\] is not a list of values"),
        (lambda: Setting(link="x"), "Setting.link: 'x' is none of 'ethernet', 'offload', "),
        (lambda: GuestTransfers(remote="nowhere"), "GuestTransfers.remote: 'nowhere' is none of 'server', 'server6', "),
        (lambda: do(World(Setting().config()), ["x"]), "operations: 'x' is none of the kinds in OPERATIONS"),  # type: ignore[list-item]
        (lambda: frames(3), "config: 3 is not a NetworkConfig"),  # type: ignore[arg-type]
    ],
)
def test_misspelt_fields_and_values_are_named_at_once(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(UsageError, match=f"^{sentence}"):
        make()


def test_a_program_is_a_setting_and_operations() -> None:
    made = Setting(link="largest"), [kind() for kind in OPERATIONS]
    assert decode(encode(*made)) == made
