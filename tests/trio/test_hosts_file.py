"""The contents of a guest's hosts file."""

from __future__ import annotations

import pytest

from sansnet_core.addresses import parse
from sansnet_trio.guest.hosts_file import render

ENTRIES = [(parse("192.0.2.1"), ("one.example", "one")), (parse("2001:db8::1"), ("one.example",))]


@pytest.mark.parametrize(
    ("base", "kept"),
    [
        ("", []),
        ("127.0.0.1 localhost\n", ["127.0.0.1 localhost"]),
        ("# words\n\n  # more", ["# words", "", "  # more"]),
        ("192.0.2.9 two one # a comment\n", ["192.0.2.9 two"]),
        ("192.0.2.9\tONE.example\n192.0.2.9\tone.example.net", ["192.0.2.9\tone.example.net"]),
        ("192.0.2.9 two # one", ["192.0.2.9 two # one"]),
        ("192.0.2.9", ["192.0.2.9"]),
    ],
)
def test_entries_come_first_and_their_names_are_removed_from_other_lines(base: str, kept: list[str]) -> None:
    own = ["# made by sansnet", "192.0.2.1 one.example one", "2001:db8::1 one.example"]
    assert render(ENTRIES, base).splitlines() == [*own, *kept]
