"""The release command, in a copy of this checkout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.checkouts import copied_checkout

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

VERSION_FILE = "packages/sansnet-core/src/sansnet_core/_version.py"


class Checkout:
    """A repository whose only commit is this checkout, with a fragment for the next release."""

    def __init__(self, root: Path) -> None:
        self.root = copied_checkout(root)
        self.git("init", "-q")
        self.add_fragment("sooner.feature", "There is a feature.")

    def git(self, *words: str) -> str:
        identity = ("-c", "user.name=test", "-c", "user.email=test@example.com")
        done = subprocess.run(["git", *identity, *words], cwd=self.root, check=True, capture_output=True, text=True)
        return done.stdout

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "all")

    def add_fragment(self, name: str, text: str) -> None:
        (self.root / f"docs/news/+{name}.md").write_text(f"{text}\n")
        self.commit()

    def read(self, name: str) -> str:
        return (self.root / name).read_text()

    def release(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "packages/release.py", *words]
        return subprocess.run(command, cwd=self.root, check=False, capture_output=True, text=True)

    def changes(self) -> str:
        return self.git("status", "--porcelain")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "checkout")


def test_a_release(checkout: Checkout) -> None:
    done = checkout.release("9.8.7")
    assert done.returncode == 0, done.stderr
    assert "git tag -a v9.8.7" in done.stdout
    assert '"9.8.7"' in checkout.read(VERSION_FILE)
    before, _, changes = checkout.read("docs/changes.md").partition("## 9.8.7 (")
    assert before.startswith("# Changes\n")
    assert "\n- There is a feature.\n" in changes.partition("\n## ")[0]
    assert not list(checkout.root.glob("docs/news/*.*.md"))
    names = {path.name for path in (checkout.root / "dist").iterdir()}
    packages = ("sansnet", "sansnet_core", "sansnet_trio", "sansnet_cli")
    built = {f"{name}-9.8.7{end}" for name in packages for end in (".tar.gz", "-py3-none-any.whl")}
    others = {"sansnet-9.8.7-requirements.txt", "sansnet-9.8.7.cdx.json"}
    assert names == built | others
    uploaded = done.stdout.partition("publish ")[2].split("\n")[0].split()
    assert {Path(name).name for name in uploaded} == built
    assert all(f"dist/{name}" in done.stdout.partition("Publish ")[2] for name in others)


def test_later_fragments_join_a_version_without_a_tag(checkout: Checkout) -> None:
    earlier = checkout.read("docs/changes.md").partition("\n## ")[2]
    checkout.release("9.8.7")
    checkout.commit()
    checkout.add_fragment("later.bugfix", "There is no fault.")
    done = checkout.release("9.8.7")
    assert done.returncode == 0, done.stderr
    changes = checkout.read("docs/changes.md")
    assert earlier in changes  # earlier versions stay as they are, though their lines may end with a parenthesis
    assert changes.count("## 9.8.7 (") == changes.count("- There is a feature.") == 1
    assert "There is no fault." in changes
    assert not list(checkout.root.glob("docs/news/*.*.md"))


def test_a_draft_changes_nothing(checkout: Checkout) -> None:
    done = checkout.release("9.8.7", "--draft")
    assert "- There is a feature." in done.stdout
    assert checkout.changes() == ""


@pytest.mark.parametrize(
    ("change", "words", "status"),
    [
        ("write a file", "the checkout has changes", 1),
        ("tag", "there is a tag v9.8.7 already", 1),
        ("break the build", "hatchling build", 1),
        ("name no version", "'9.8' is no version", 2),
    ],
)
def test_a_release_that_cannot_be_made_changes_nothing(
    checkout: Checkout, change: str, words: str, status: int
) -> None:
    version = "9.8.7"
    if change == "write a file":
        (checkout.root / "new").touch()
    elif change == "tag":
        checkout.git("tag", "v9.8.7")
    elif change == "break the build":
        (checkout.root / "packages/sansnet-cli/README.md").unlink()
        checkout.commit()
    else:
        version = "9.8"
    before = checkout.changes()
    done = checkout.release(version)
    assert done.returncode == status
    assert words in done.stderr
    assert done.stderr.startswith(("release: ", "usage: "))
    assert checkout.changes() == before
