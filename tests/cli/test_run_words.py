"""A command line of `sansnet run` without options means the same without a parser."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sansnet_cli.options.records import CommandLineError
from sansnet_cli.run import command, parser

WORDS = st.lists(
    st.sampled_from(["--", "-", "", "true", "--root", "-t", "80", "-it", "-h1", "--no-such", "a b", "=x", "-5"])
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5),
    max_size=5,
)


def meaning(parse: object, words: list[str]) -> object:
    assert callable(parse)
    try:
        return parse(list(words))
    except (CommandLineError, SystemExit) as error:
        return str(error)


@given(WORDS)
def test_with_and_without_a_parser(words: list[str]) -> None:
    assert meaning(command.parse, words) == meaning(parser.parse, words)


def test_the_parser_is_left_out() -> None:
    assert command.parse(["--", "--root"]).command == ("--root",)
    assert command.parse(["true", "--root"]) == command.parse(["--", "true", "--root"])
    assert command.parse(["--root", "true"]).root
