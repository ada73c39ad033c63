"""Strategies and operations name fields and values that do not exist."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sansnet_core import UsageError
from sansnet_core.testing.operations import OPERATIONS, Setting, World, decode, do, encode
from sansnet_core.testing.operations.steps import GuestConnects, GuestTransfers
from sansnet_core.testing.strategies import frames, sequences, settings

WRONG: Any = "x"


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
        (lambda: do(World(Setting().config()), [WRONG]), "operations: 'x' is none of the kinds in OPERATIONS"),
        (lambda: frames(WRONG), "config: 'x' is not a NetworkConfig"),
    ],
)
def test_misspelt_fields_and_values_are_named_at_once(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(UsageError, match=f"^{sentence}"):
        make()


def test_a_program_is_a_setting_and_operations() -> None:
    made = Setting(link="largest"), [kind() for kind in OPERATIONS]
    assert decode(encode(*made)) == made
