"""Small repositories of package managers and of git, as files below a directory for each host name."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
import zipfile
from base64 import b64encode
from pathlib import Path
from typing import Final

__all__ = ["MESSAGE", "make_all"]

MESSAGE: Final = "made by a test"
"""It is in every package."""


def make_all(root: Path) -> None:
    """Make `packages.example` (pip), `registry.example` (npm), `git.example`, `deb.example` and `www.example`."""
    _make_python(root / "packages.example")
    _make_npm(root / "registry.example")
    _make_git(root / "git.example")
    _make_debian(root / "deb.example")
    (root / "www.example").mkdir(parents=True)
    (root / "www.example" / "index.html").write_text(
        "<!doctype html><title>page</title><body><script src='script.js'></script></body>"
    )
    (root / "www.example" / "script.js").write_text(f"document.body.append('{MESSAGE}')")


def _make_python(root: Path) -> None:
    index = root / "simple" / "sample"
    index.mkdir(parents=True)
    name = "sample-1.0-py3-none-any.whl"
    with zipfile.ZipFile(index / name, "w") as wheel:
        wheel.writestr("sample.py", f"print({MESSAGE!r})\n")
        wheel.writestr("sample-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: sample\nVersion: 1.0\n")
        wheel.writestr("sample-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("sample-1.0.dist-info/RECORD", "")
    (index / "index.html").write_text(f'<!doctype html><a href="{name}">{name}</a>')


def _make_npm(root: Path) -> None:
    package = json.dumps({"name": "sample", "version": "1.0.0", "main": "index.js"}).encode()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as packed:
        for name, data in (("package.json", package), ("index.js", f"console.log({MESSAGE!r})\n".encode())):
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    root.mkdir(parents=True)
    (root / "sample-1.0.0.tgz").write_bytes(archive.getvalue())
    digest = b64encode(hashlib.sha512(archive.getvalue()).digest()).decode()
    found = {"tarball": "https://registry.example/sample-1.0.0.tgz", "integrity": f"sha512-{digest}"}
    version = {"name": "sample", "version": "1.0.0", "main": "index.js", "dist": found}
    (root / "sample").write_text(
        json.dumps({"name": "sample", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}})
    )


def _make_git(root: Path) -> None:
    root.mkdir(parents=True)
    work = root / "work"
    commands = [
        ["git", "init", "-q", "-b", "main", str(work)],
        ["git", "-C", str(work), "add", "."],
        ["git", "-C", str(work), "-c", "user.name=Test", "-c", "user.email=test@git.example", "commit", "-qm", MESSAGE],
        ["git", "clone", "-q", "--bare", str(work), str(root / "sample.git")],
        ["git", "-C", str(root / "sample.git"), "update-server-info"],
    ]
    for number, command in enumerate(commands):
        subprocess.run(command, check=True, capture_output=True)
        if number == 0:
            (work / "README").write_text(MESSAGE)


def _make_debian(root: Path) -> None:
    control = root / "tree" / "DEBIAN"
    control.mkdir(parents=True)
    control.chmod(0o755)
    (control / "control").write_text(
        "Package: sample\nVersion: 1.0\nArchitecture: all\nMaintainer: Test <test@deb.example>\n"
        f"Description: {MESSAGE}\n"
    )
    (root / "tree" / "sample").write_text(MESSAGE)
    package = root / "sample_1.0_all.deb"
    subprocess.run(["dpkg-deb", "--build", str(root / "tree"), str(package)], check=True, capture_output=True)
    data = package.read_bytes()
    fields = (control / "control").read_text()
    digest = hashlib.sha256(data).hexdigest()
    index = f"{fields}Filename: ./{package.name}\nSize: {len(data)}\nSHA256: {digest}\n\n"
    (root / "Packages").write_text(index)
    found = hashlib.sha256(index.encode()).hexdigest()
    (root / "Release").write_text(f"SHA256:\n {found} {len(index)} Packages\n")
