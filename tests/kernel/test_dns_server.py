"""The DNS server as the programs of a real guest see it: the C library's resolver, dig, over UDP and TCP."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import trio
import trio.testing

from sansnet_core import Ipv4Config, NameAsked, NetworkConfig
from sansnet_trio import CommandGuest, GuestNetwork, GuestPlan, InterfaceAddress, Route, Services, Tap, open_network
from sansnet_trio.dns import DnsServer, Question

pytestmark = pytest.mark.kernel

SERVER: Final = "10.9.0.53"

ZONES: Final = {
    "app.internal": "10.9.0.1",
    "six.internal": "fd00::1",
    "both.internal": ["10.9.0.1", "fd00::1"],
    "*.cdn.example": "10.9.0.2",
    "www.example": "CNAME app.internal",
    "_http._tcp.example": "SRV 0 5 80 app.internal",
    "text.example": 'TXT "a text with spaces"',
    "secure.example": "HTTPS 1 . alpn=h2,h3 ipv4hint=10.9.0.1",
    "mail.example": "MX 10 app.internal",
    "many.internal": [f"10.1.{number // 250}.{number % 250}" for number in range(500)],
}


def prepare() -> tuple[GuestPlan, None]:
    return GuestPlan(
        interface="eth0",
        addresses=(InterfaceAddress(bytes([10, 0, 2, 15]), 24),),
        routes=(Route(destination=bytes(4), prefix_length=0, gateway=bytes([10, 0, 2, 2])),),
        ipv6=False,
        resolv_conf=f"nameserver {SERVER}\noptions timeout:5 attempts:2\n",
    ), None


async def collect_names(
    network: GuestNetwork, names: list[str], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    async with network.subscribe() as events:
        task_status.started()
        names += [event.name async for event in events if isinstance(event, NameAsked)]


async def serve(guest: CommandGuest[None], server: DnsServer, names: list[str]) -> int:
    """Run the guest with a network where nothing exists but the server, and collect the names in its events."""
    ready = await guest.ready()
    services = Services()
    config = NetworkConfig(
        link=ready.link, ipv4=Ipv4Config(address="10.0.2.15/24", gateway="10.0.2.2"), virtual=("10.9.0.0/16",)
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(server.serve, services, host=SERVER))
        async with open_network(Tap(ready.tap, ready.link), config, services=services) as network:
            await nursery.start(collect_names, network, names)
            guest.start()
            status = await guest.wait()
            assert network.driver_statistics().sockets == 0  # all that was asked stayed in the program
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return status


def in_guest(script: str, output: Path, server: DnsServer, names: list[str] | None = None) -> list[str]:
    """The lines that a script of a guest prints."""
    command = ["sh", "-c", f"exec >{output} 2>&1\n{script}"]
    with CommandGuest.fork(command, prepare) as guest:
        status = trio.run(serve, guest, server, [] if names is None else names)
    lines = output.read_text().splitlines()
    assert status == 0, lines
    return lines


def test_the_c_library_finds_names(tmp_path: Path) -> None:
    asked: list[Question] = []
    names: list[str] = []
    server = DnsServer(ZONES, reverse=True, on_query=lambda question, code: asked.append(question))
    script = """
getent ahostsv4 APP.internal | head -1
getent hosts six.internal
python3 -c 'import socket; print(socket.getaddrinfo("www.example", 80, socket.AF_INET, socket.SOCK_STREAM)[0][4])'
getent hosts any.cdn.example
getent hosts www.example
getent hosts 10.9.0.2 || echo nothing
getent hosts 10.9.0.1
getent hosts nowhere.internal || echo nothing
"""
    lines = [" ".join(line.split()) for line in in_guest(script, tmp_path / "output", server, names)]
    assert lines == [
        "10.9.0.1 STREAM APP.internal",
        "fd00::1 six.internal",
        "('10.9.0.1', 80)",
        "10.9.0.2 any.cdn.example",
        "10.9.0.1 app.internal www.example",
        "nothing",
        "10.9.0.1 app.internal",
        "nothing",
    ]
    assert {question.name for question in asked} >= {"app.internal", "1.0.9.10.in-addr.arpa", "nowhere.internal"}
    assert names == [question.name for question in asked]
    assert {str(question.guest).rpartition(":")[0] for question in asked} == {"10.0.2.15"}


DIG: Final = shutil.which("dig")


@pytest.mark.parametrize("protocol", ["+notcp", "+tcp"])
def test_dig_gets_every_type_of_record(tmp_path: Path, protocol: str) -> None:
    questions = [
        ("app.internal", "A", "10.9.0.1"),
        ("both.internal", "AAAA", "fd00::1"),
        ("www.example", "A", "app.internal. 10.9.0.1"),
        ("_http._tcp.example", "SRV", "0 5 80 app.internal."),
        ("text.example", "TXT", '"a text with spaces"'),
        ("1.0.9.10.in-addr.arpa", "PTR", "app.internal. both.internal."),
        ("secure.example", "TYPE65", r"\# 25 00010000010006026832026833000400040A090001"),
        ("mail.example", "MX", "10 app.internal."),
    ]
    lines = "\n".join(f"echo $({DIG} {protocol} +short {name} {kind})" for name, kind, _ in questions)
    server = DnsServer(ZONES, reverse=True)
    assert in_guest(lines, tmp_path / "output", server)[:6] == [answer for _, _, answer in questions[:6]]
    counts = server.statistics()
    assert (counts.udp, counts.tcp) == ((8, 0) if protocol == "+notcp" else (0, 8))


def test_a_large_answer_comes_over_tcp_after_udp(tmp_path: Path) -> None:
    server = DnsServer(ZONES)
    script = f"{DIG} +short many.internal | wc -l; getent ahostsv4 many.internal | grep -c STREAM"
    assert in_guest(script, tmp_path / "output", server) == ["500", "500"]
    counts = server.statistics()
    assert counts.udp >= 2
    assert counts.tcp >= 2


def test_several_questions_share_a_connection(tmp_path: Path) -> None:
    async def slow(question: Question) -> Sequence[str]:
        await trio.sleep(0.05)
        return ["10.9.0.9"]

    script = f"{DIG} +tcp +keepopen +short a.slow b.slow app.internal"
    server = DnsServer(ZONES | {"*.slow": slow})
    assert in_guest(script, tmp_path / "output", server) == ["10.9.0.9", "10.9.0.9", "10.9.0.1"]


def test_garbage_disturbs_nothing(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage"
    garbage.write_bytes(os.urandom(60000))
    script = f"""
for size in 1 11 12 13 100 1000; do head -c $size {garbage} >/dev/udp/{SERVER}/53; done
head -c 50000 {garbage} >/dev/tcp/{SERVER}/53
getent ahostsv4 app.internal | head -1
"""
    lines = in_guest(f"exec bash -c '{script}'", tmp_path / "output", DnsServer(ZONES))
    assert lines[-1].split() == ["10.9.0.1", "STREAM", "app.internal"]
