"""Files of Debian's packages, without installing them: downloaded once, and kept in the checkout's `.cache`.

Theory of operation: apt works with a state of its own, apart from the lists and locks of the machine. The address of
the archive is that of the machine's own source for its release; the archive has other suites too, such as the
backports. Delete `.cache` to get newer packages.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["CACHE", "Archive", "archive", "codename"]

CACHE: Final = Path(__file__).resolve().parents[2] / ".cache"

_KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def codename() -> str | None:
    """The release of Debian for x86-64 that this is, such as `bookworm`; None if it is something else."""
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        return None
    is_debian = system["ID"] == "debian" and platform.machine() == "x86_64" and shutil.which("apt-get")
    return system.get("VERSION_CODENAME") if is_debian else None


@cache
def archive(suite: str) -> Archive:
    """One suite of the archive that this machine, which is a Debian, gets its packages from."""
    return Archive(suite)


class Archive:
    """A suite, such as `bookworm` or `bookworm-backports`."""

    def __init__(self, suite: str) -> None:
        self._suite = suite
        self._state = CACHE / "apt" / suite
        self._updated = False

    def files(self, name: str, packages: Sequence[str | tuple[str, str]]) -> Path:
        """A directory with the files of some packages.

        Args:
            name: of that directory in the cache; if it is there, nothing is downloaded.
            packages: their names. A pair is an empty package, and the start of the name of the wanted dependency.
        """
        made = CACHE / f"{self._suite}-{name}"
        if not made.exists():
            unpacked = self._clean("unpacked")
            downloads = self._clean("downloads")
            wanted = [each if isinstance(each, str) else self._dependency(*each) for each in packages]
            self._apt("apt-get", "download", *wanted, directory=downloads)
            for package in downloads.iterdir():
                subprocess.run(["dpkg-deb", "--extract", package, unpacked], check=True)
            unpacked.rename(made)
        return made

    def _dependency(self, package: str, start: str) -> str:
        lines = self._apt("apt-cache", "depends", package).splitlines()
        names = [line.partition("Depends: ")[2] for line in lines]
        return next(name for name in names if name.startswith(start))

    def _clean(self, name: str) -> Path:
        """An empty directory."""
        path = self._state / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def _apt(self, program: str, *arguments: str, directory: Path | None = None) -> str:
        if not self._updated:
            self._updated = True
            self._prepare()
            self._apt("apt-get", "update")
        options = {
            "APT::Sandbox::User": "root",
            "Dir::Cache": self._state / "cache",
            "Dir::Etc::SourceList": self._state / "sources.list",
            "Dir::Etc::SourceParts": "/nonexistent",
            "Dir::State": self._state / "state",
            "Dir::State::status": self._state
            / "status",  # without packages: the machine's may be newer than the suite's
        }
        words = [word for option, value in options.items() for word in ("-o", f"{option}={value}")]
        return _output(program, "-qq", *words, *arguments, directory=directory)

    def _prepare(self) -> None:
        for name in ("cache/archives/partial", "state/lists/partial"):
            (self._state / name).mkdir(parents=True, exist_ok=True)
        (self._state / "status").touch()
        signed = f"[signed-by={_KEYRING}] " if _KEYRING.exists() else ""
        (self._state / "sources.list").write_text(f"deb {signed}{_address()} {self._suite} main\n")


@cache
def _address() -> str:
    """The address of the source that this machine has for its release."""
    listing = _output("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)")
    for line in listing.splitlines():
        address, release, component = line.split()
        if (release, component) == (codename(), "main"):
            return address
    raise AssertionError(f"no source of apt's has {codename()} main")


def _output(*command: str, directory: Path | None = None) -> str:
    done = subprocess.run(command, cwd=directory, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"{command}: status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
