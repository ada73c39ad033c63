"""The bill of materials of an installation of the command: a CycloneDX document in JSON.

It has a component for each distribution that the command needs on Linux, with its version, licence and hashes, and
says which of them needs which. The metadata come from this environment, which must have the versions of the lock.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, distribution
from typing import Final, NamedTuple

from cyclonedx.factory.license import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["Locked", "bill", "read_lock"]

_COMMAND: Final = "sansnet"
_LINUX: Final = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "extra": ""}
_CLASSIFIER: Final = "License :: OSI Approved :: "
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")


class Locked(NamedTuple):
    """A distribution of a lock.

    Attributes:
        version: its version.
        hashes: SHA-256 of each file of that version, as 64 hexadecimal digits.
    """

    version: str
    hashes: tuple[str, ...]


def read_lock(text: str) -> dict[str, Locked]:
    """The distributions of a lock that are for Linux: a canonical name -> the version and hashes."""
    found: dict[str, Locked] = {}
    for entry in re.sub(r"\\\n", " ", text).splitlines():
        pinned, hashes = entry.partition("--hash")[0], tuple(_HASH.findall(entry))
        if not pinned.strip() or pinned.startswith(("#", "-")):
            continue
        requirement = Requirement(pinned)
        if _applies(requirement.marker):
            (specifier,) = requirement.specifier
            found[canonicalize_name(requirement.name)] = Locked(specifier.version, hashes)
    return found


def bill(version: str, files: Mapping[str, str], lock: Mapping[str, Locked]) -> str:
    """The bill of materials.

    Args:
        version: of sansnet.
        files: its wheels and sdists: name -> SHA-256.
        lock: the distributions of others.

    Raises:
        ValueError: this environment has another version than the lock, or a distribution that is in no lock.
    """
    components: dict[str, Component] = {}
    needs: dict[str, list[str]] = {}
    waiting = [_COMMAND]
    while waiting:
        name = waiting.pop()
        if name in components:
            continue
        if name == _COMMAND:  # not among the editable distributions of a checkout
            needs[name] = [f"{_COMMAND}-cli"]
        else:
            needs[name] = sorted(_needed(distribution(name)))
        waiting += needs[name]
        if name.startswith(_COMMAND):
            own = [files[file] for file in sorted(files) if file.startswith(f"{name.replace('-', '_')}-{version}")]
            components[name] = _component(name, Locked(version, tuple(own)))
        elif name in lock and lock[name].version == distribution(name).version:
            components[name] = _component(name, lock[name])
        else:
            raise ValueError(
                f"{name} {distribution(name).version} is not in the lock; run tests/run, or renew the lock"
            )
    if surplus := lock.keys() - components.keys():
        raise ValueError(f"nothing needs {', '.join(sorted(surplus))}; renew the lock")
    return _document(components, needs)


def _document(components: Mapping[str, Component], needs: Mapping[str, Iterable[str]]) -> str:
    document = Bom(components=[each for name, each in components.items() if name != _COMMAND])
    document.metadata.component = components[_COMMAND]
    for name, needed in needs.items():
        document.register_dependency(components[name], [components[other] for other in needed])
    contents = sorted(f"{each.purl} {[str(part.content) for part in _hashes(each)]}" for each in components.values())
    document.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, "\n".join(contents))
    written = json.loads(JsonV1Dot6(document).output_as_string())
    del written["metadata"]["timestamp"]  # the same distributions have the same bill
    return f"{json.dumps(written, indent=2)}\n"


def _hashes(component: Component) -> list[HashType]:
    return [part for reference in component.external_references for part in sorted(reference.hashes)]


def _component(name: str, locked: Locked) -> Component:
    metadata = distribution(f"{_COMMAND}-cli" if name == _COMMAND else name).metadata
    files = ExternalReference(
        type=ExternalReferenceType.DISTRIBUTION,
        url=XsUri(f"https://pypi.org/project/{name}/{locked.version}/"),
        comment="SHA-256 of each file of this version",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=each) for each in locked.hashes],
    )
    return Component(
        name=name,
        version=locked.version,
        type=ComponentType.APPLICATION if name == _COMMAND else ComponentType.LIBRARY,
        bom_ref=f"{name}=={locked.version}",
        description=metadata["Summary"],
        licenses=[LicenseFactory().make_from_string(text) for text in _licences(name)],
        purl=PackageURL("pypi", name=name, version=locked.version),
        external_references=[files],
    )


def _licences(name: str) -> list[str]:
    metadata = distribution(f"{_COMMAND}-cli" if name == _COMMAND else name).metadata
    for field in ("License-Expression", "License"):
        if field in metadata:
            return [metadata[field]]
    classifiers: list[str] = metadata.get_all("Classifier") or []
    return [text.removeprefix(_CLASSIFIER) for text in classifiers if text.startswith(_CLASSIFIER)]


def _needed(found: Distribution) -> Iterable[str]:
    for text in found.requires or ():
        requirement = Requirement(text)
        if _applies(requirement.marker):
            yield canonicalize_name(requirement.name)


def _applies(marker: Marker | None) -> bool:
    return marker is None or marker.evaluate(dict(_LINUX))
