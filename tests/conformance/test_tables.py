"""The tables of requirements are well formed, and each test that they name exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from docs import conformance_pages
from docs.conformance_pages import Requirement, Table, markdown, parse, places, summary, tables
from tests.test_language import HEAD, RARE

RFCS: Final = (1122, 2131, 4443, 4861, 4862, 5961, 6298, 6675, 6980, 7323, 8200, 8415, 9293)
FOLDER: Final = Path("docs/conformance")
HEADING: Final = 'rfc = 1\ntitle = "T"\nrole = "R"\nleft_out = []\n'
ROW: Final = '[[requirement]]\nid = "A"\nsection = "1"\nlevel = "MUST"\ntext = "T"\n'


@pytest.fixture(params=tables(), ids=[str(table.rfc) for table in tables()])
def table(request: pytest.FixtureRequest) -> Table:
    assert isinstance(request.param, Table)
    return request.param


def test_there_is_a_table_of_each_rfc() -> None:
    assert tuple(table.rfc for table in tables()) == RFCS


def test_a_table_is_of_the_rfc_that_its_name_says(table: Table) -> None:
    assert parse((FOLDER / f"rfc{table.rfc}.toml").read_text()) == table
    assert len(table.requirements) > 5


def test_each_test_exists(table: Table) -> None:
    named = {name for one in table.requirements for name in one.tests}
    assert named - set(places()) == set()


def test_the_requirements_of_the_kernel_tests_are_few(table: Table) -> None:
    """A requirement is held by tests that need no privileges, so that it is held everywhere."""
    for one in table.requirements:
        if one.state == "held":
            assert any(not places()[name].startswith("kernel/") for name in one.tests), one.id


def test_texts_are_plain(table: Table) -> None:
    """The rules of tests/test_language.py, which reads no TOML."""
    texts = [table.role, *table.left_out, *(f"{one.text}\n{one.reason}" for one in table.requirements)]
    for text in texts:
        assert not RARE.search(text), text
        assert not any(match[2] != "?" for match in HEAD.finditer(text)), text


def test_texts_are_sentences(table: Table) -> None:
    for one in table.requirements:
        for text in filter(None, (one.text, one.reason)):
            assert re.fullmatch(r"([A-Z0-9`]|sansnet ).*\.", text, re.DOTALL), (one.id, text)


def test_each_table_has_a_page(table: Table) -> None:
    text = (FOLDER / f"rfc{table.rfc}.md").read_text()
    assert text == f"# RFC {table.rfc}: {table.title}\n\n<!-- requirements: {table.rfc} -->\n"


def test_a_page_shows_each_requirement_with_its_tests_or_its_reason(table: Table) -> None:
    page = markdown(table)
    for one in table.requirements:
        [row] = [line for line in page.splitlines() if line.startswith(f"| {one.id} |")]
        assert one.text in row
        assert one.reason in row
        assert all(f"`{name.rpartition('::')[2]}`" in row for name in one.tests)
    assert all(text in page for text in table.left_out)


def test_the_summary_adds_up() -> None:
    rows = [line.split(" | ")[1:] for line in summary().splitlines()[2:]]
    numbers = [[int(cell.strip(" |")) for cell in row] for row in rows]
    assert [sum(column) for column in zip(*numbers[:-1], strict=True)] == numbers[-1]
    assert all(row[0] == sum(row[1:]) for row in numbers)
    assert len(numbers) == len(RFCS) + 1


def test_a_table_is_read() -> None:
    assert parse(HEADING + ROW + 'state = "held"\ntests = ["test_a"]\n') == Table(
        1, "T", "R", (), (Requirement("A", "1", "MUST", "T", "held", ("test_a",), ""),)
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADING + "more = 1\n" + ROW + 'state = "held"\ntests = ["a"]\n', "keys of the table: .*more"),
        ('rfc = 1\ntitle = "T"\nleft_out = []\n' + ROW, "keys of the table: .*role"),
        (HEADING + ROW + 'state = "held"\n', "A: it is held, so it has tests"),
        (
            HEADING + ROW + 'state = "held"\ntests = ["a"]\nreason = "R"\n',
            "A: it is held, so it has tests and no reason",
        ),
        (HEADING + ROW + 'state = "different"\ntests = ["a"]\n', "A: it is different, so it has a reason"),
        (HEADING + ROW + 'state = "not applicable"\n', "A: it is not applicable, so it has a reason"),
        (HEADING + ROW + 'state = "unknown"\nreason = "R"\n', "A: level 'MUST', state 'unknown'"),
        (HEADING + ROW.replace("MUST", "must") + 'state = "held"\ntests = ["a"]\n', "A: level 'must'"),
        (HEADING + ROW.replace('"1"', '""') + 'state = "held"\ntests = ["a"]\n', "A: the section or the text is empty"),
        (HEADING + 2 * (ROW + 'state = "held"\ntests = ["a"]\n'), r"occur twice: \['A'\]"),
    ],
)
def test_a_table_that_is_wrong_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_names_that_several_files_have_are_given_with_their_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "test_a.py").write_text("def test_one() -> None: ...\nasync def test_both() -> None: ...\n")
    (tmp_path / "folder" / "test_b.py").write_text("def test_both() -> None: ...\n    def test_inner() -> None: ...\n")
    monkeypatch.setattr(conformance_pages, "TESTS", tmp_path)
    assert places.__wrapped__() == {
        "test_one": "test_a.py",
        "test_a.py::test_both": "test_a.py",
        "folder/test_b.py::test_both": "folder/test_b.py",
    }
