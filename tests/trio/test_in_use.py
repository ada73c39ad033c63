"""Ports in use, from the kernel's tables."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import closing

import pytest

from sansnet_core.ports import TCP, UDP
from sansnet_trio.forward.in_use import PortsInUse


def ports_in_use(directory: str, protocol: int) -> set[tuple[int, int]]:
    with closing(PortsInUse(directory)) as ports:
        return ports.find(protocol)


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


def test_open_tables_show_what_has_changed() -> None:
    with closing(PortsInUse("/proc/self")) as ports:
        for protocol, kind in ((TCP, socket.SOCK_STREAM), (UDP, socket.SOCK_DGRAM)):
            with socket.socket(socket.AF_INET, kind) as made:
                made.bind(("127.0.0.1", 0))
                if kind == socket.SOCK_STREAM:
                    made.listen()
                pair = (4, made.getsockname()[1])
                assert pair in ports.find(protocol)
                assert pair in ports.find(protocol)
            assert pair not in ports.find(protocol)
    ports.close()


def test_tables_that_cannot_all_be_opened_leave_none_open(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    really = os.open

    def open_two(path: str, flags: int) -> int:
        if len(opened) == 2:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)
        opened.append(really(path, flags))
        return opened[-1]

    monkeypatch.setattr(os, "open", open_two)
    with pytest.raises(OSError, match="open files"):
        PortsInUse("/proc/self")
    monkeypatch.undo()
    for descriptor in opened:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(descriptor)
