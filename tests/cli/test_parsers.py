"""The parsers of all commands. Documentation, manual pages and shell completion are made from them."""

from __future__ import annotations

from sansnet_cli.dispatch import COMMANDS
from sansnet_cli.parsers import parsers


def test_every_command_has_a_parser_of_its_name() -> None:
    made = parsers()

    assert {name: parser.prog for name, parser in made.items()} == {name: f"sansnet {name}" for name in made}
    assert [*made] == [name for name in COMMANDS if name in made]
    assert {*COMMANDS} - {*made} == {"pasta", "passt", "pesto"}
