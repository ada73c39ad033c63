"""The metadata that the four distributions share, as hooks of hatchling.

Each package has a symbolic link to this file beside its pyproject.toml, since a hook has to be inside of its project.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

__all__ = ["URLS", "Links", "Metadata"]

URLS: Final[dict[str, str]] = {}
"""`project.urls` of all distributions: a label such as `Source`, `Issues`, `Changelog` -> URL."""


class Metadata(MetadataHookInterface):
    """Gives a project its URLs and dependencies.

    The dependencies are listed in pyproject.toml, in the table of this hook. A distribution of ours, which has a name
    like `sansnet-core`, is required in the version of the project itself.

    In a checkout our distributions are directories. uv finds them by `tool.uv.sources`, which pip does not know; so if
    pip builds the project `sansnet`, their `file:` URLs take the place of its dependencies. pipx calls pip.
    """

    def update(self, metadata: dict[str, Any]) -> None:
        """Add both to `metadata`, which is the table `project` of pyproject.toml."""
        packages = _packages(Path(self.root, "packages")) if "PIP_BUILD_TRACKER" in os.environ else []  # pip sets it
        metadata["dependencies"] = packages or [
            f"{name}=={metadata['version']}" if name.startswith("sansnet-") else name
            for name in self.config["dependencies"]
        ]
        metadata["urls"] = URLS


class Links(BuildHookInterface[Any]):
    """Puts files into an sdist in place of the symbolic links to them, which its target excludes."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files to `build_data`."""
        for link in self.build_config.target_config["exclude"]:
            build_data["force_include"][str(Path(self.root + link).resolve())] = link


def _packages(directory: Path) -> list[str]:
    """Requirements (PEP 508) for the packages in a directory, by `file:` URLs."""
    requirements = []
    for project in sorted(directory.glob("*/pyproject.toml")):
        name = tomllib.loads(project.read_text())["project"]["name"]
        requirements.append(f"{name} @ {project.resolve().parent.as_uri()}")
    return requirements
