"""The README's examples, run as they are written there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

from sansnet_cli.parsers import parsers
from tests.lab.checkouts import BASE_PYTHON, PROGRAMS, copied_checkout, run_outside

README = Path("README.md").read_text()
PAGES: Final = [
    Path("README.md"),
    Path("benchmarks/README.md"),
    *(path for path in sorted(Path("docs").rglob("*.md")) if path.parent.name != "news"),
]
PARSERS: Final = parsers()
OPERATORS: Final = {"&&", "||", "|", "&", ";"}


def block(language: str, containing: str) -> str:
    """The one code block of a language that contains something."""
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    (found,) = (text for text in blocks if containing in text)
    return found


@pytest.mark.kernel
def test_the_five_line_program_gives_a_command_a_network(tmp_path: Path) -> None:
    program = tmp_path / "embed.py"
    program.write_text(block("python", "import open_guest"))
    command = [sys.executable, str(program), "sh", "-c", "test $(ip -o link | wc -l) = 2 && exit 7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 7, done.stderr


@pytest.mark.kernel
def test_the_program_that_is_a_guests_world_answers_it(tmp_path: Path) -> None:
    program = tmp_path / "world.py"
    program.write_text(block("python", "Services()"))
    command = [sys.executable, str(program), "curl", "-s", "http://10.0.2.2/"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "hello from the program\n"), done.stderr


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_place_that_a_page_leads_to_exists(page: Path) -> None:
    for link in re.findall(r"\]\((?!https:)([^)]+)\)", page.read_text()):
        name, _, heading = link.partition("#")
        there = page.parent / name if name else page
        assert there.exists(), link
        headings = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE) if heading else []
        assert not heading or heading in [re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    files = [
        path.as_posix()
        for folder in ("packages", "tests", "benchmarks", "examples")
        for path in Path(folder).rglob("*")
    ]
    for name in re.findall(
        r"`((?:[\w-]+/)*[\w-]+\.py|(?:proto|wire|sansnet_\w+|tests|benchmarks)/[\w/]*)`", page.read_text()
    ):
        assert any(f"/{path}".endswith(f"/{name.rstrip('/')}") for path in files), name


def test_ci_runs_the_command_that_it_gives_for_the_tests() -> None:
    assert block("sh", "tests/run").strip() == "sh tests/run"
    assert "tests/run" in Path(".ci/run").read_text()


def commands(page: Path) -> Iterator[list[str]]:
    """The command lines of `sansnet` that a page shows, as words without the first."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    blocks += [line.partition("=")[2] for line in page.read_text().splitlines() if line.startswith("ExecStart=")]
    for text in blocks:
        for line in text.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
            lexer.whitespace_split = True
            words = [*lexer]
            while words:
                end = next(
                    (place for place, word in enumerate(words) if word in OPERATORS or word.startswith(">")), len(words)
                )
                if Path(words[0]).name == "sansnet":
                    yield words[1:end]
                words = words[end + 1 :]


def test_every_command_line_that_a_page_shows_is_understood() -> None:
    shown = [words for page in PAGES for words in commands(page)]
    parsed = [PARSERS[words[0]].parse_args(words[1:]) for words in shown if words[0] in PARSERS]
    assert len(parsed) > 20
    assert {words[0] for words in shown} <= {*PARSERS, "pasta", "passt", "pesto", "--version"}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the programs that the first lines need, and no `sansnet`."""
    made = tmp_path_factory.mktemp("programs")
    (made / "uv").symlink_to(PROGRAMS / "uv")
    (made / "python3").symlink_to(BASE_PYTHON)
    return made


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, programs: Path) -> tuple[Path, str]:
    """A checkout where the line without uv was run, and what that said."""
    if find_spec("ensurepip") is None:
        pytest.skip("this Python makes no environment with pip, without ensurepip")
    checkout = copied_checkout(tmp_path_factory.mktemp("checkout"))
    return checkout, run_outside(checkout, "sh", "-c", block("sh", "-m venv"), path=programs).stdout


def assert_fetched(said: str) -> None:
    _, fetched, flows = said.rpartition("pip fetched")
    assert fetched, said
    assert re.search(r"^  https?://\S+/sampleproject-\S+$", flows, re.MULTILINE)
    assert re.search(r"^  tcp .* -> \S+:\d+ +\d+ bytes sent, +[1-9]\d* received$", flows, re.MULTILINE)


@pytest.mark.kernel
@pytest.mark.timeout(600)
def test_the_first_line_shows_the_network(tmp_path: Path, programs: Path) -> None:
    checkout = copied_checkout(tmp_path / "checkout")
    assert_fetched(run_outside(checkout, "sh", "-c", block("sh", "uv run"), path=programs).stdout)


@pytest.mark.kernel
@pytest.mark.timeout(600)
def test_the_first_line_without_uv_shows_the_network(installed: tuple[Path, str]) -> None:
    assert_fetched(installed[1])


@pytest.mark.kernel
@pytest.mark.timeout(600)
def test_what_is_fetched_without_the_network_is_no_success(installed: tuple[Path, str], tmp_path: Path) -> None:
    checkout, _ = installed
    wheel = tmp_path / "sampleproject-99.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(
            "sampleproject-99.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: sampleproject\nVersion: 99.0\n"
        )
        archive.writestr(
            "sampleproject-99.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("sampleproject-99.0.dist-info/RECORD", "")
    python = checkout / ".venv/bin/python"
    done = run_outside(checkout, python, "examples/fetch.py", check=False, variables={"PIP_FIND_LINKS": str(tmp_path)})
    assert done.returncode == 1
    assert f"pip found {wheel.as_uri()}, which needs no network" in done.stderr
    assert "pip fetched" not in done.stdout


@pytest.mark.kernel
@pytest.mark.timeout(600)
def test_without_a_network_nothing_is_fetched(installed: tuple[Path, str]) -> None:
    checkout, _ = installed
    words = ["unshare", "--net", str(checkout / ".venv/bin/python"), "examples/fetch.py"]
    done = run_outside(checkout, *words, check=False, variables={"PIP_RETRIES": "0"})
    assert done.returncode == 1
    assert "`sansnet run` ended with status 1" in done.stderr
    assert "pip fetched" not in done.stdout
