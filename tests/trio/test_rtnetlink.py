"""Netlink over a socket of our own, with messages of a library that is not there afterwards."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys

import pytest

from sansnet_trio.linux.rtnetlink import Netlink
from tests.lab.namespaces import held_namespace

LOOPBACK = 1


def test_addresses_and_routes_are_listed() -> None:
    with Netlink() as netlink:
        found = [message.get_attr("IFA_LOCAL") for message in netlink.addresses(socket.AF_INET)]
        routes = [message.get_attr("RTA_DST") for message in netlink.routes(socket.AF_INET)]
    assert "127.0.0.1" in found
    assert "127.0.0.1" in routes


@pytest.mark.kernel
def test_more_than_one_answers_hold() -> None:
    count = 1000
    with held_namespace() as namespace:
        script = "".join(f"route add 10.{n >> 8}.{n & 255}.0/24 dev lo\n" for n in range(count))
        subprocess.run(namespace.command("ip", "-batch", "-"), input=script, text=True, check=True)

        def destinations() -> list[str]:
            with Netlink() as netlink:
                return [str(message.get_attr("RTA_DST")) for message in netlink.routes(socket.AF_INET)]

        assert len({text for text in namespace.call(destinations) if text.startswith("10.")}) == count


@pytest.mark.kernel
def test_what_is_added_is_there_and_what_is_refused_is_an_error() -> None:
    with held_namespace() as namespace:

        def add() -> int | None:
            with Netlink() as netlink:
                attributes = [("IFA_LOCAL", "10.7.0.2"), ("IFA_ADDRESS", "10.7.0.2")]
                netlink.add_address(socket.AF_INET, attributes, index=LOOPBACK, prefixlen=32)
                with pytest.raises(OSError, match="exists") as caught:
                    netlink.add_address(socket.AF_INET, attributes, index=LOOPBACK, prefixlen=32)
                return caught.value.errno

        assert namespace.call(add) == errno.EEXIST
        assert "10.7.0.2/32" in namespace.shell("ip address show dev lo").stdout


@pytest.mark.parametrize("before", ["", "import pyroute2\n"], ids=["first", "second"])
def test_who_imports_the_library_gets_all_of_it(before: str) -> None:
    program = f"""{before}
import sys
from sansnet_trio.linux.rtnetlink import Netlink
with Netlink() as netlink:
    assert netlink.addresses(2)
assert bool({before!r}) == ("pyroute2" in sys.modules)
import pyroute2
import pyroute2.netlink.rtnl.rtmsg
with pyroute2.IPRoute() as whole:
    assert [link for link in whole.get_links() if link["index"] == 1]
assert pyroute2.netlink.rtnl.rtmsg.rtmsg
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
