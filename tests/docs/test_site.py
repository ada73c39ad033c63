"""The documentation as a site and as manual pages, built as users build it: `sh docs/build`."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Final

import pytest

from docs.command_pages import help_of
from docs.conformance_pages import tables
from docs.public_names import listed_modules
from sansnet_cli.compat import PROGRAMS
from sansnet_cli.compat.options import OPTIONS
from sansnet_cli.dispatch import COMMANDS
from sansnet_cli.parsers import parsers

pytestmark = pytest.mark.timeout(630)  # the first of these tests builds the site

DOCS: Final = Path("docs")
PARSERS: Final = parsers()
PACKAGES: Final = ("sansnet_core", "sansnet_trio", "sansnet_cli")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the site and the manual pages; a warning of Sphinx fails here."""
    out = tmp_path_factory.mktemp("docs")
    done = subprocess.run(
        ["sh", "docs/build", str(out)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHON": sys.executable},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


def page(built: Path, name: str) -> str:
    return (built / "html" / f"{name}.html").read_text()


def manual(built: Path, name: str) -> str:
    """The source of a manual page, without roff's escapes of hyphens."""
    return (built / "man" / f"{name}.1").read_text().replace("\\-", "-")


def options(command: str) -> set[str]:
    """Every option of a command that its help shows."""
    if command in PARSERS:
        actions = [action for action in PARSERS[command]._actions if action.help != argparse.SUPPRESS]
        return {name for action in actions for name in action.option_strings}
    if command in PROGRAMS:
        shown = [option for option in OPTIONS if option.only in ("", command)]
        letters = {f"-{option.short}" for option in shown if option.short}
        return letters | {f"--{name}" for option in shown for name in (option.name, *option.aliases)}
    return {"-A", "--add", "-D", "--delete", "-C", "--clear", "-s", "--show", "-h", "--help"}


@pytest.mark.slow
def test_every_page_is_in_the_site(built: Path) -> None:
    sources = {path.relative_to(DOCS).with_suffix("") for path in DOCS.rglob("*.md") if "news" not in path.parts}
    assert len(sources) > 30
    assert {source for source in sources if not (built / "html" / f"{source}.html").exists()} == set()


@pytest.mark.slow
def test_every_picture_is_in_the_site(built: Path) -> None:
    for path in DOCS.rglob("*.md"):
        if pictures := path.read_text().count("```mermaid\n"):
            shown = page(built, str(path.relative_to(DOCS).with_suffix("")))
            assert len(re.findall(r'<pre[^>]* class="mermaid"', shown)) == pictures, path


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_the_reference_has_every_public_name(built: Path, package: str) -> None:
    shown = page(built, f"reference/{package}")
    names = import_module(package).__all__
    assert [name for name in names if not re.search(rf'id="(module-)?{package}\.{name}"', shown)] == []
    for module in listed_modules(package):
        others = [name for name in import_module(f"{package}.{module}").__all__ if name not in names]
        assert [name for name in others if f'.{name}"' not in shown] == [], module


@pytest.mark.slow
def test_attributes_that_share_a_description_have_an_entry_each(built: Path) -> None:
    shown = re.sub(r"<[^>]+>", "", page(built, "reference/sansnet_core"))
    for name in ("dhcp", "dhcp6", "ndp", "router_advertisements"):
        assert f"{name} (bool) -- whether the service is on." in shown, name


@pytest.mark.slow
def test_a_colon_in_a_description_makes_no_type(built: Path) -> None:
    shown = re.sub(r"<[^>]+>", "", page(built, "reference/sansnet_core"))
    assert "0: data is one datagram." in shown
    assert not re.search(r"^Type:", shown, re.MULTILINE)


@pytest.mark.slow
def test_the_glossary_has_every_word_as_a_term(built: Path) -> None:
    shown = page(built, "glossary")
    words = [
        word
        for line in re.findall(r"^- \*\*(.+?)\*\*: ", (DOCS / "glossary.md").read_text(), re.MULTILINE)
        for word in line.split("**, **")
    ]
    assert len(words) > 40
    assert [word for word in words if f'id="term-{word.replace(" ", "-")}"' not in shown] == []


@pytest.mark.slow
def test_the_pages_about_conformance_have_every_requirement(built: Path) -> None:
    sums = page(built, "conformance/index")
    for table in tables():
        shown = page(built, f"conformance/rfc{table.rfc}")
        assert [one.id for one in table.requirements if f"<p>{one.id}</p>" not in shown] == []
        assert f'href="rfc{table.rfc}.html"' in sums
        assert f"<p>{len(table.requirements)}</p>" in sums


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_the_pages_of_a_command_have_every_option(built: Path, command: str) -> None:
    wanted = options(command)
    site = set(re.findall(r'<span class="pre">(-[\w-]+)</span>', page(built, f"reference/commands/{command}")))
    source = manual(built, f"sansnet-{command}")
    assert len(wanted) > 2
    assert wanted - site == set()
    assert (
        wanted - set(re.findall(r"(?<![\w-])-[\w-]+", "\n".join(re.findall(r"^\.B .*$", source, re.MULTILINE))))
        == set()
    )


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_manual_page_has_its_parts(built: Path, command: str) -> None:
    source = manual(built, f"sansnet-{command}")
    assert re.search(rf"^sansnet-{command} - \w+", source, re.MULTILINE)
    headings = re.findall(r"^\.SH (.*)$", source, re.MULTILINE)
    assert headings[:4] == ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS"]
    assert ("EXAMPLES" in headings) == bool(help_of(command).examples)
    assert headings[-1] == "SEE ALSO"


@pytest.mark.slow
def test_the_manual_page_of_sansnet_has_every_command(built: Path) -> None:
    source = manual(built, "sansnet")
    assert [command for command in COMMANDS if f"sansnet {command}" not in source] == []
    assert [command for command in COMMANDS if f"sansnet-{command}(1)" not in source] == []
    assert "<>" not in source


@pytest.mark.slow
def test_the_manual_pages_are_correct_roff(built: Path) -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is missing")
    pages = sorted((built / "man").glob("*.1"))
    assert len(pages) == 1 + len(COMMANDS)
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "error", *pages], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    shown = subprocess.run(["mandoc", "-T", "ascii", *pages], capture_output=True, text=True, check=True).stdout
    assert max(map(len, re.sub(".\b", "", shown).splitlines())) <= 110


def test_the_stable_modules_exist_and_list_their_names() -> None:
    rows = re.findall(r"^\| (`sansnet_.*?) \|", Path("docs/stability.md").read_text(), re.MULTILINE)
    assert len(rows) > 4
    for row in rows:
        package, *modules = re.findall(r"`([\w.]+)`", row)
        for name in [package, *(module if "." in module else f"{package}.{module}" for module in modules)]:
            module = import_module(name)
            inner = [each.name for each in iter_modules(getattr(module, "__path__", []))]
            assert hasattr(module, "__all__") or all(import_module(f"{name}.{each}").__all__ for each in inner), name
