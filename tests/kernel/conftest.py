"""One laboratory for all of these tests, and a guest with default options for each module."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import SERVER4, SERVER6, DnsServer, Guest, Lab, laboratory

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("kernel")
            item.add_marker("slow")
            if os.geteuid():
                item.add_marker(pytest.mark.skip(reason="needs root, to make network namespaces"))


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    with laboratory() as made:
        yield made


@pytest.fixture(scope="module")
def guest(lab: Lab) -> Iterator[Guest]:
    with lab.guest() as made:
        yield made


@pytest.fixture(params=[SERVER4, SERVER6], ids=["ipv4", "ipv6"])
def server(request: pytest.FixtureRequest) -> str:
    """An upstream address, of each family in turn."""
    address: str = request.param
    return address


@pytest.fixture
def dns() -> DnsServer:
    return DnsServer(
        {
            ("www.lab.example", "A"): [SERVER4],
            ("www.lab.example", "AAAA"): [SERVER6],
            ("long.lab.example", "TXT"): [f'"{number:03d}{"x" * 200}"' for number in range(20)],
        }
    )
