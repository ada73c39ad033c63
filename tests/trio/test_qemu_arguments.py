"""The arguments for QEMU, of each version and for each link."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_trio.plan.options import OptionsError
from sansnet_trio.plan.qemu_arguments import (
    OLDEST,
    Version,
    check_arguments,
    machine_arguments,
    netdev,
    program_for,
    read_version,
)

NEWEST: Version = (11, 0)
PATH = "/tmp/s"


def made(*arguments: str, version: Version = NEWEST, **how: Any) -> list[str]:
    """The arguments that are added to those of the user."""
    how = {"vhost_user": True, "mtu": None, "has_kvm": False} | how
    whole = machine_arguments(arguments, version, PATH, **how)
    assert whole[: len(arguments)] == list(arguments)
    return whole[len(arguments) :]


def memory(*arguments: str) -> str:
    """The size of the memory that is added."""
    added = made(*arguments)
    assert added[:4:2] == ["-object", "-machine"]
    assert added[3] == "memory-backend=sansnet"
    found = re.fullmatch(r"memory-backend-memfd,id=sansnet,size=(\d+),share=on", added[1])
    assert found is not None
    return found[1]


@pytest.mark.parametrize(
    ("version", "again"),
    [
        ((7, 2), ""),
        ((8, 0), ",reconnect=1"),
        ((9, 1), ",reconnect=1"),
        ((9, 2), ",reconnect-ms=1000"),
        ((10, 0), ",reconnect-ms=1000"),
    ],
)
def test_a_stream_as_each_version_has_it(version: Version, again: str) -> None:
    assert made("-m", "1G", version=version, vhost_user=False, mtu=65520) == [
        *("-netdev", f"stream,id=sansnet,server=off,addr.type=unix,addr.path={PATH}{again}"),
        *("-device", "virtio-net-pci,netdev=sansnet,romfile=,host_mtu=65520"),
    ]


@pytest.mark.parametrize(
    ("version", "again", "card"),
    [
        ((7, 2), ",reconnect=1", ",vectors=0"),
        ((9, 1), ",reconnect=1", ",vectors=0"),
        ((9, 2), ",reconnect-ms=1000", ",vectors=0"),
        ((10, 0), ",reconnect-ms=1000", ""),
    ],
)
def test_vhost_user_as_each_version_has_it(version: Version, again: str, card: str) -> None:
    assert made(version=version) == [
        *("-object", "memory-backend-memfd,id=sansnet,size=134217728,share=on", "-machine", "memory-backend=sansnet"),
        *("-chardev", f"socket,id=sansnet,path={PATH}{again}", "-netdev", "vhost-user,id=sansnet,chardev=sansnet"),
        *("-device", f"virtio-net-pci,netdev=sansnet,romfile={card}"),
    ]


@pytest.mark.parametrize(
    ("arguments", "wants"),
    [
        ("", False),
        ("-enable-kvm", True),
        ("-accel kvm", True),
        ("--accel kvm,thread=multi -accel tcg", True),
        ("-accel tcg -accel kvm", False),
        ("-accel tcg", False),
        ("-machine q35,accel=kvm", True),
        ("-M accel=kvm:tcg,type=q35", True),
        ("-machine q35,accel=tcg:kvm", False),
        ("-name kvm", False),
    ],
)
def test_only_kvm_may_keep_the_interrupts_with_which_tcg_crashes(arguments: str, wants: bool) -> None:
    for has_kvm in (False, True):
        spared = not made(*arguments.split(), version=OLDEST, has_kvm=has_kvm)[-1].endswith(",vectors=0")
        assert spared == (wants and has_kvm)


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        ("", 128 << 20),
        ("-m 1G", 1 << 30),
        ("-m 1g", 1 << 30),
        ("-m 192", 192 << 20),
        ("-m 1.5G", 3 << 29),
        ("-m 300001K", 307208192),  # rounded up by QEMU 7.2
        ("-m 20000000b", 20004864),
        ("--m size=256M,slots=2,maxmem=1G", 256 << 20),
        ("-m slots=2,size=256M", 256 << 20),
        ("-m 256,slots=2,maxmem=1G", 256 << 20),
        ("-m slots=2,maxmem=1G", 128 << 20),
        ("-m 0", 128 << 20),
        ("-m 1G -m 2G", 2 << 30),
        ("-m 2G -m slots=2,maxmem=4G", 2 << 30),
    ],
)
def test_the_memory_is_as_large_as_the_user_says(arguments: str, size: int) -> None:
    assert memory(*arguments.split()) == str(size)


@pytest.mark.parametrize("text", ["", "1X", "G", "-1", "1GB", "0x100", "1.G", "size=", "one"])
def test_a_size_that_is_none(text: str) -> None:
    with pytest.raises(OptionsError, match="for QEMU is not a size"):
        made("-m", text)


@pytest.mark.parametrize(
    "arguments",
    [
        "-m 1X -machine q35,memory-backend=mine",
        "-M memory-backend=mine -object memory-backend-file,id=mine,share=on",
        "-numa node,memdev=mine",
    ],
)
def test_memory_of_the_users_own_is_left_alone(arguments: str) -> None:
    assert made(*arguments.split())[0] == "-chardev"


def test_memory_is_not_shared_where_nobody_needs_it() -> None:
    assert made("-m", "1X", vhost_user=False)[0] == "-netdev"


@pytest.mark.parametrize(("mtu", "words"), [(None, ""), (1500, ""), (1499, ",host_mtu=1499"), (9000, ",host_mtu=9000")])
def test_the_card_has_another_mtu_than_ethernets_if_that_is_wanted(mtu: int | None, words: str) -> None:
    assert made(mtu=mtu)[-1] == f"virtio-net-pci,netdev=sansnet,romfile={words}"


def test_a_comma_in_a_path_is_doubled() -> None:
    for vhost_user in (False, True):
        assert "path=/a,,b,reconnect" in netdev("/a,b", NEWEST, vhost_user=vhost_user, name="n")[1]


WORDS = st.one_of(st.sampled_from(["-m", "-M", "-machine", "-accel", "-numa", "--", "1G", "accel=kvm"]), st.text())


@given(st.lists(WORDS), st.tuples(st.integers(7, 12), st.integers(0, 3)), st.booleans())
def test_the_users_arguments_stay_as_they_are_and_in_front(
    arguments: list[str], version: Version, vhost_user: bool
) -> None:
    try:
        added = made(*arguments, version=version, vhost_user=vhost_user)
    except OptionsError:
        return
    link = netdev(PATH, version, vhost_user=vhost_user, name="sansnet")
    assert added[-2 - len(link) : -1] == [*link, "-device"]


def test_what_leaves_the_terminal_cannot_be_served() -> None:
    for word in ("-daemonize", "--daemonize"):
        with pytest.raises(OptionsError, match="daemonize"):
            check_arguments(["-m", "1G", word], vhost_user=False)
    check_arguments(["-m", "1G", "-name", "daemonize"], vhost_user=True)


def test_memory_of_a_file_that_is_not_shared_is_for_the_stream_alone() -> None:
    with pytest.raises(OptionsError, match="share=on"):
        check_arguments(["-mem-path", "/dev/hugepages"], vhost_user=True)
    check_arguments(["-mem-path", "/dev/hugepages"], vhost_user=False)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright", (7, 2)),
        ("QEMU emulator version 10.0.2\n", (10, 0)),
        ("QEMU emulator version 11.0.50 (v11.0.0-12-g1a2b3c4)", (11, 0)),
        ("qemu-img version 7.2.22", None),
        ("", None),
        ("7.2", None),
    ],
)
def test_the_version_of_qemu(text: str, version: Version | None) -> None:
    assert read_version(text) == version


@pytest.mark.parametrize(
    ("machine", "program"),
    [("x86_64", "x86_64"), ("aarch64", "aarch64"), ("i686", "i386"), ("armv7l", "arm"), ("ppc64le", "ppc64")],
)
def test_qemu_is_that_of_the_processor(machine: str, program: str) -> None:
    assert program_for(machine) == f"qemu-system-{program}"
