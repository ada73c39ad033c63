"""The loop of docs/write-a-driver.md, with a simulated guest on one side and the host's real sockets on the other."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from examples.tiny_driver import TinyDriver
from sansnet_core import Network, NetworkConfig
from sansnet_core.testing import GATEWAY, SECRET, GuestStack, make_config


@pytest.fixture
def echo_port() -> Iterator[int]:
    """A server on the host's loopback that sends back what it gets."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as stream:
                while data := stream.recv(65536):
                    stream.sendall(data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(5)


@pytest.mark.slow
def test_a_guest_talks_to_a_server_of_the_host_through_the_tiny_driver(echo_port: int) -> None:
    base = make_config()
    config = NetworkConfig(link=base.link, ipv4=base.ipv4, ipv6=base.ipv6, map_host_loopback=(GATEWAY,))
    guest = GuestStack(gateway_mac=config.mac)
    data = bytes(range(256)) * 400
    ours, guests = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, guests:
        guests.setblocking(False)
        driver = TinyDriver(Network(config, now=time.monotonic(), secret=SECRET), ours)
        connection = guest.connect((GATEWAY, echo_port), now=time.monotonic())
        connection.send(data)
        connection.shutdown()
        with closing(driver.selector):
            end = time.monotonic() + 20
            while (driver.streams or not connection.fin_received) and time.monotonic() < end:
                now = time.monotonic()
                guest.at(now)
                for frame in guest.take_frames():
                    guests.send(frame)
                driver.run(now + 0.01)
                try:
                    while True:
                        guest.receive(guests.recv(1 << 17), time.monotonic())
                except BlockingIOError:
                    pass
                guest.handle_deadline(time.monotonic())
    assert bytes(connection.received) == data
    assert not driver.streams
