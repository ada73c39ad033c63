"""The words of messages: arguments of the library for its users, options for those of the command."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

from sansnet_cli.dispatch import _WORDS
from sansnet_cli.parsers import parsers
from sansnet_trio.words import word

SOURCES: Final = Path(__file__).parent.parent.parent / "packages/sansnet-trio/src/sansnet_trio"


def known_options() -> set[str]:
    return {text for parser in parsers().values() for action in parser._actions for text in action.option_strings}


def test_the_library_has_its_own_words() -> None:
    assert word("root=True") == "root=True"


def test_the_command_has_a_word_for_each_argument_that_messages_name() -> None:
    named = {"TCP", "UDP", "TCP (inbound=False)", "UDP (inbound=False)"}  # see `binding.described`
    for file in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if (
                isinstance(node, ast.Call)
                and ast.unparse(node.func) == "word"
                and isinstance(node.args[0], ast.Constant)
            ):
                named.add(str(node.args[0].value))
    assert named == set(_WORDS)


def test_those_words_are_options() -> None:
    for name in _WORDS.values():
        [option] = re.findall(r"(?<!\S)--?[a-zA-Z][a-z-]*", name)
        assert option in known_options()


def test_no_sentence_of_the_library_names_an_option_of_the_command() -> None:
    """Apart from `--version`, which QEMU has, too."""
    options = {option for option in known_options() if option.startswith("--")} - {"--version"}
    found = []
    for file in SOURCES.rglob("*.py"):
        tree = ast.parse(file.read_text())
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                words = re.findall(r"--[a-z][a-z-]*|(?<= )-I\b", node.value)
                found += [(file.name, each) for each in words if each in {*options, "-I"}]
    assert found == []
