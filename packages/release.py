"""Prepares a release: `.venv/bin/python packages/release.py 0.1.0`, in a clean checkout with the `.venv` of tests/run.

It sets the version, moves the news fragments into docs/changes.md, and builds the distributions, their lock and their
bill of materials in dist/ (packages/distributions.py). Then it prints the commands that commit, tag and upload. If it
fails, it leaves the checkout as it was.

Until the version has a tag, the command can be repeated after more changes. New fragments are then added below what
the changelog says of the version already.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import distributions

__all__ = ["ReleaseError", "main"]

ROOT: Final = Path(__file__).resolve().parent.parent
VERSION_FILE: Final = ROOT / "packages/sansnet-core/src/sansnet_core/_version.py"
CHANGES: Final = ROOT / "docs/changes.md"
NEWS: Final = ROOT / "docs/news"
DIST: Final = ROOT / "dist"


class ReleaseError(Exception):
    """The release cannot be made; the text names the remedy."""


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Set the version, build the changelog and the distributions.")
    parser.add_argument("version", help="such as 0.1.0 or 0.2.0rc1")
    parser.add_argument("--draft", action="store_true", help="only print the new entries of the changelog")
    arguments = parser.parse_args()
    version = arguments.version
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version):
        parser.error(f"{version!r} is no version; it must be like 0.1.0 or 0.2.0rc1")
    try:
        if arguments.draft:
            print(_towncrier("--draft", "--version", version))
        else:
            _release(version)
    except ReleaseError as error:
        sys.exit(f"release: {error}")


def _release(version: str) -> None:
    if _git("status", "--porcelain"):
        raise ReleaseError("the checkout has changes; commit or remove what `git status` shows")
    if _git("tag", "--list", f"v{version}"):
        raise ReleaseError(f"there is a tag v{version} already; choose the next version")
    try:
        _reopen(version)
        VERSION_FILE.write_text(
            re.sub(r'(?m)^__version__ = ".*"$', f'__version__ = "{version}"', VERSION_FILE.read_text())
        )
        _towncrier("--yes", "--version", version)
        files = _build()
    except BaseException:
        _git("restore", "--staged", "--worktree", ".")
        _git("clean", "-fdq", "docs/news")
        raise
    names = " ".join(str(file.relative_to(ROOT)) for file in files)
    print(f"docs/changes.md has {version}, and dist/ its distributions. Read the changelog, then:")
    print(f'  git commit -am "Release {version}"\n  git tag -a v{version} -m "sansnet {version}"')
    print(f"  git push --follow-tags\n  .venv/bin/uv publish {names}")
    others = " ".join(sorted(str(path.relative_to(ROOT)) for path in set(DIST.iterdir()) - set(files)))
    print(f"Publish {others} beside them.")
    if not _has_urls():
        print("The distributions name no URL of the project; to add some, fill URLS in packages/metadata.py first.")


def _reopen(version: str) -> None:
    """Make a fragment of what the changelog says of a version already."""
    title = re.compile(rf"^## {re.escape(version)} \([^)\n]*\)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    text = CHANGES.read_text()
    if section := title.search(text):
        (NEWS / "+before.summary.md").write_text(section[1].strip() + "\n")
        CHANGES.write_text(text[: section.start()] + text[section.end() :])


def _build() -> list[Path]:
    shutil.rmtree(DIST, ignore_errors=True)
    try:
        return distributions.build(DIST)
    except distributions.BuildError as error:
        raise ReleaseError(str(error)) from error


def _has_urls() -> bool:
    return _run(sys.executable, "-m", "hatchling", "metadata", "urls").strip() not in ("", "{}")


def _towncrier(*words: str) -> str:
    return _run(sys.executable, "-m", "towncrier", "build", *words)


def _git(*words: str) -> str:
    return _run("git", *words)


def _run(*words: str, directory: Path = ROOT) -> str:
    """The output of a command.

    Raises:
        ReleaseError: it failed.
    """
    done = subprocess.run(words, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseError(f"`{' '.join(words)}` failed:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
