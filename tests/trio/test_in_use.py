"""Ports in use, from the kernel's tables."""

from __future__ import annotations

import os
import socket

from sansnet_core.ports import TCP, UDP
from sansnet_trio.forward.in_use import ports_in_use


def test_listening_sockets_are_found_with_their_families() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as four,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as six,
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as both,
    ):
        ports = [made.getsockname()[1] for made in (four, six, both)]
        with socket.create_connection(four.getsockname()) as connection:
            seen = ports_in_use("/proc/self", TCP)
            ephemeral = connection.getsockname()[1]
        assert ports_in_use(f"/proc/{os.getpid()}", TCP) >= {
            (4, ports[0]),
            (16, ports[1]),
            (16, ports[2]),
            (4, ports[2]),
        }
    assert {pair for pair in seen if pair[1] in ports} == {
        (4, ports[0]),
        (16, ports[1]),
        (4, ports[2]),
        (16, ports[2]),
    }
    assert not {(4, ephemeral), (16, ephemeral)} & seen
    assert not {port for _, port in ports_in_use("/proc/self", TCP)} & set(ports)


def test_unconnected_datagram_sockets_are_found() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waiting,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as busy,
    ):
        waiting.bind(("127.0.0.1", 0))
        busy.connect(waiting.getsockname())
        seen = ports_in_use("/proc/self", UDP)
        assert (4, waiting.getsockname()[1]) in seen
        assert (4, busy.getsockname()[1]) not in seen


def test_a_process_that_has_ended_has_no_ports() -> None:
    assert ports_in_use(f"/proc/{1 << 22}", TCP) == set()  # beyond PID_MAX_LIMIT
