"""Virtual machines of every kind: an old and a new QEMU, each on both links."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import Lab, initramfs
from tests.lab.noise import Noise, served_noise
from tests.lab.qemu import NEW, OLD, STREAM, VHOST_USER, find_qemu
from tests.lab.virtual_machines import Kind, Stable


@pytest.fixture(
    scope="session",
    params=[(version, link) for link in (STREAM, VHOST_USER) for version in (OLD, NEW)],
    ids=lambda kind: "-".join(kind),
)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind in turn, or those that a test names."""
    version, link = request.param
    qemu = find_qemu(version)
    if qemu is None:
        pytest.skip(f"there is no QEMU {version} for this system")
    return Kind(qemu, link)


@pytest.fixture(scope="session")
def linux() -> initramfs.Linux:
    return initramfs.linux(initramfs.compiled("ask"))


@pytest.fixture(scope="session")
def stable(lab: Lab, linux: initramfs.Linux) -> Stable:
    return Stable(lab, linux)


@pytest.fixture(scope="session")
def noise(lab: Lab) -> Iterator[Noise]:
    with served_noise(lab, 8181, size=4_000_000) as made:
        yield made


@pytest.fixture(scope="session")
def large_noise(lab: Lab) -> Iterator[Noise]:
    """For tests that need transfers which take a while: an emulated processor takes a second for it."""
    with served_noise(lab, 8182) as made:
        yield made
