"""The dependencies of the distribution `sansnet`, as a metadata hook of hatchling.

It depends on `sansnet-cli` of the same version. In a checkout that is one of the directories beside this file. uv finds
them by `tool.uv.sources` of pyproject.toml, which pip does not know; so for pip, and for pipx, which calls it, the
dependencies are the URLs of these directories. An sdist has no such directories, so what is made of it has the name and
version alone.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

__all__ = ["Dependencies"]


class Dependencies(MetadataHookInterface):
    """Gives a project its dependencies."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add them to `metadata`, which is the table `project` of pyproject.toml."""
        beside = _packages(Path(self.root, "packages")) if "PIP_BUILD_TRACKER" in os.environ else []  # pip sets it
        metadata["dependencies"] = beside or [f"sansnet-cli=={metadata['version']}"]


def _packages(directory: Path) -> list[str]:
    """Requirements (PEP 508) for the packages in a directory, by `file:` URLs."""
    requirements = []
    for project in sorted(directory.glob("*/pyproject.toml")):
        name = tomllib.loads(project.read_text())["project"]["name"]
        requirements.append(f"{name} @ {project.resolve().parent.as_uri()}")
    return requirements
