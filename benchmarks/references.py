#!/usr/bin/env python3
"""The C programs that sansnet is compared with, from the packages of two releases of Debian, without installing them.

`references.py pasta 13` prints the beginning of a command line of Debian 13's pasta, whose options follow.

Theory of operation: the packages are unpacked below the checkout's `.cache` (see `tests/lab/debian.py`), with the
libraries that the programs need. Each program runs with the C library of its own release, started by that release's
dynamic linker. pasta and passt replace themselves by their variant for processors with AVX2, unless the name of the
running executable, which is the linker here, has `.avx2` in it. So a linker with such a name starts the variant.
"""

from __future__ import annotations

import contextlib
import gzip
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for the import below

try:
    from tests.lab.debian import archive, codename
except ModuleNotFoundError as error:
    sys.exit(f"{error.name} is missing: run `sh tests/run --collect-only -q`, and use .venv/bin/python, which it makes")

__all__ = ["RELEASES", "Release"]

PROGRAMS: Final[Mapping[str, str]] = MappingProxyType(
    {"pasta": "passt", "passt": "passt", "slirp4netns": "slirp4netns"}
)
"""The package of each program."""

LIBRARIES: Final = ("libc6", "libcap2", "libpcre2-8-0", "libseccomp2", "libslirp0")
FOLDERS: Final = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")
LINKER: Final = "ld-linux-x86-64.so.2"


@dataclass(frozen=True, slots=True)
class Release:
    """A release of Debian.

    Attributes:
        number: such as 13.
        suite: its name in the archive.
        libraries: packages of libraries that other releases do not have.
    """

    number: int
    suite: str
    libraries: tuple[str, ...]

    def missing(self) -> str | None:
        """A sentence that says why its programs cannot run here; None if they can. Downloads packages."""
        if not codename():
            return "the programs of Debian's packages need a Debian for x86-64"
        try:
            self._files()
        except AssertionError:
            return f"apt-get cannot download the packages of Debian {self.number}, which needs the archive of Debian"
        return None

    def command(self, program: str) -> list[str]:
        """The beginning of a command line of `pasta`, `passt` or `slirp4netns`. The first call downloads packages."""
        files = self._files()
        executable = files / "usr/bin" / program
        folders = [files / each for each in FOLDERS]
        linker = next(path for each in folders if (path := each / LINKER).exists())
        if "avx2" in _processor_flags() and (variant := executable.with_name(f"{program}.avx2")).exists():
            executable, linker = variant, _linked(linker, files / "linker.avx2")
        return [str(linker), "--library-path", ":".join(map(str, folders)), str(executable)]

    def version(self, program: str) -> str:
        """Package, version and release, such as `slirp4netns 1.2.1-1.1 of Debian 13`."""
        package = PROGRAMS[program]
        with gzip.open(self._files() / f"usr/share/doc/{package}/changelog.Debian.gz", "rt") as changes:
            newest = changes.readline().partition("(")[2].partition(")")[0]
        return f"{package} {newest} of Debian {self.number}"

    def _files(self) -> Path:
        return archive(self.suite).files("references", sorted({*PROGRAMS.values(), *LIBRARIES, *self.libraries}))


RELEASES: Final[Mapping[int, Release]] = MappingProxyType(
    {12: Release(12, "bookworm", ("libglib2.0-0",)), 13: Release(13, "trixie", ("libglib2.0-0t64",))}
)
"""By number."""


def _linked(path: Path, name: Path) -> Path:
    """Another name of a file, made once."""
    with contextlib.suppress(FileExistsError):
        name.hardlink_to(path)
    return name


@cache
def _processor_flags() -> frozenset[str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())


def main(program: str, number: str = "13") -> int:
    release = RELEASES[int(number)]
    if reason := release.missing():
        print(reason, file=sys.stderr)
        return 1
    print(shlex.join(release.command(program)))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
