"""System calls that Python has no functions for."""

from __future__ import annotations

import errno
import resource
import socket
from collections.abc import Iterator

import pytest

from sansnet_trio.linux.syscalls import interface_index


@pytest.fixture
def no_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_index_of_an_interface() -> None:
    assert interface_index("lo") == socket.if_nametoindex("lo")


@pytest.mark.parametrize("name", ["nosuch", "", "x" * 15, "x" * 16, "lo" + "x" * 40, "lo\0x"])
def test_an_interface_that_is_not_there(name: str) -> None:
    with pytest.raises(OSError, match="No such device"):
        interface_index(name)


def test_an_index_without_a_descriptor(no_descriptors: None) -> None:
    with pytest.raises(OSError, match="open files") as raised:
        interface_index("lo")
    assert raised.value.errno == errno.EMFILE
