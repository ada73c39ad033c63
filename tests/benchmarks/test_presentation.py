"""Results on their way from a file to the tables and the picture of the documentation."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import pytest
from cells import CELLS
from picture import draw
from publish import publish, render
from results import GROUPS, Results, Row, Sample, grouped
from where import parse_arguments

PAGE: Final = Path("docs/performance.md")
ROWS: Final = [
    Row("tcp-rr-1", "1/s", cpu_unit="us", cpu_scale=1e-6),
    Row("start-up", "ms", 1e-3, more_is_better=False),
    Row("burst-lost", "lost", more_is_better=False),
    Row("tap-out", "Mbit/s", 1e6),
]


def results() -> Results:
    """Of two programs: one is twice as fast for a quarter of the processor time, and takes twice as long to start."""
    found = Results("programs", "pasta-13", {"load": "0.00"}, {"pasta-13": "passt 1", "sansnet": "sansnet 2"}, ROWS)
    for rate in (900, 1000, 5000):
        found.add("pasta-13", Sample("tcp-rr-1", rate, 40e-6))
        found.add("sansnet", Sample("tcp-rr-1", 2 * rate, 10e-6))
    for program, seconds in (("pasta-13", 0.01), ("sansnet", 0.02)):
        found.add(program, Sample("start-up", seconds))
        found.add(program, Sample("burst-lost", 0))
    found.add("pasta-13", Sample("tap-out", 0))
    found.add("sansnet", Sample("tap-out", 5e9))
    return found


def test_ratios_are_of_medians_and_above_one_is_better() -> None:
    rr, start, lost, out = ROWS
    assert results().ratios(rr) == {"pasta-13": 1, "sansnet": 2}
    assert results().ratios(rr, cpu=True) == {"pasta-13": 1, "sansnet": pytest.approx(4)}
    assert results().ratios(start) == {"pasta-13": 1, "sansnet": 0.5}
    assert results().ratios(lost) == results().ratios(out) == {}


def test_processor_time_has_columns_of_its_own() -> None:
    lines = results().table().splitlines()
    assert re.split(r" *\| *", lines[0])[1:-1] == [
        "cell",
        "unit",
        "pasta-13",
        "sansnet",
        "cpu",
        "pasta-13 cpu",
        "sansnet cpu",
    ]
    assert re.split(r" *\| *", lines[2])[3:-1] == [
        "1000 (900..5000) x1.00", "2000 (1800..10000) x2.00", "us", "40.0 x1.00", "10.0 x4.00"
    ]  # fmt: skip


def test_a_file_has_all_that_a_table_needs(tmp_path: Path) -> None:
    saved = results()
    saved.failures.append("tcp-rr-1 of sansnet in round 1/1: no answer")
    saved.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == saved


def test_every_row_of_the_comparison_has_one_group() -> None:
    rows = [row for cell in CELLS for row in cell.rows]
    assert len({row.name for row in rows}) == len(rows)
    assert sorted(row.name for _, found in grouped(rows) for row in found) == sorted(row.name for row in rows)
    assert [title for title, _ in grouped(rows)] == [title for title, _ in GROUPS]


def test_the_page_has_a_place_for_each_kind() -> None:
    for kind in ("programs", "machines", "where"):
        assert PAGE.read_text().count(f"results: {kind} -->") == 2


def test_publishing_replaces_the_tables_and_the_picture_only(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("before\n<!-- results: programs -->\nold\n<!-- /results: programs -->\nafter\n")
    for _ in range(2):
        publish(results(), page)
    text = page.read_text()
    assert text.startswith("before\n<!-- results: programs -->\n")
    assert text.endswith("\n<!-- /results: programs -->\nafter\n")
    assert render(results()) in text
    assert "old" not in text
    picture = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert [(tmp_path / name).read_text() for name in picture] == [draw(results())]


def test_a_page_without_a_place_is_not_changed(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("text\n")
    with pytest.raises(SystemExit, match="no place for the kind programs"):
        publish(results(), page)
    assert page.read_text() == "text\n"
    assert list(tmp_path.iterdir()) == [page]


def test_what_failed_is_published() -> None:
    failed = results()
    failed.failures.append("burst of sansnet in round 2/3: took more than 30 s")
    assert "- burst of sansnet in round 2/3: took more than 30 s" in render(failed)


def test_the_picture_has_a_mark_for_each_ratio_and_both_colour_schemes() -> None:
    picture = draw(results())
    root = ElementTree.fromstring(picture)
    tags = {"s": "http://www.w3.org/2000/svg"}
    titles = {title.text for title in root.findall(".//s:circle/s:title", tags)}
    assert titles == {"tcp-rr-1, sansnet: 2.00", "tcp-rr-1, sansnet: 4.00", "start-up, sansnet: 0.50"}
    assert "prefers-color-scheme: dark" in picture
    assert {"tcp-rr-1", "start-up", "sansnet"} <= {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}


def test_marks_stay_inside_the_picture() -> None:
    far = results()
    far.values["start-up"]["sansnet"] = [1e6]
    far.values["tcp-rr-1"]["sansnet"] = [1e9]
    root = ElementTree.fromstring(draw(far))
    width = float(root.attrib["width"])
    points = [each.attrib["points"] for each in root.iter("{http://www.w3.org/2000/svg}polygon")]
    assert len(points) == 2  # arrows instead of circles
    assert all(0 < float(x) < width for text in points for x in re.findall(r"([-\d.]+),", text))


def test_a_build_with_the_name_of_a_program_takes_its_place() -> None:
    builds = [word for name in ("sansnet", "compiled") for word in ("--sansnet", f"{name}={sys.executable}")]
    assert [each.name for each in parse_arguments(builds).programs] == ["pasta-13", "sansnet", "compiled"]


def test_no_cell_has_two_rows_of_one_program() -> None:
    table = PAGE.read_text().partition("<!-- results: where -->")[2].partition("<!-- /results: where -->")[0]
    rows = [tuple(line.split("|")[1:3]) for line in table.splitlines() if line.startswith("|")]
    assert len(rows) > 20
    assert len(set(rows)) == len(rows)


def test_a_row_without_a_ratio_of_another_program_is_not_drawn() -> None:
    found = results()
    assert "burst-lost" not in draw(found)
    found.add("pasta-13", Sample("burst-lost", 1))
    assert found.ratios(ROWS[2]) == {"pasta-13": 1}
    assert "burst-lost" not in draw(found)
