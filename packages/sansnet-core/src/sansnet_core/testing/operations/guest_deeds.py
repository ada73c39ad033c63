"""How the operations of a guest are done to a world."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from sansnet_core.addresses import Endpoint
from sansnet_core.testing.netem import Impairment
from sansnet_core.testing.operations import steps
from sansnet_core.testing.operations.common import endpoint, segment, send
from sansnet_core.testing.operations.content import query
from sansnet_core.testing.operations.domains import Operation
from sansnet_core.testing.operations.places import ADDRESSES
from sansnet_core.testing.operations.world import World
from sansnet_core.testing.packets import ACK, FIN, IPV4, IPV6, PSH, SYN, Segment, echo_request, ethernet, icmp, udp
from sansnet_core.testing.tcp_options import GuestTcpOptions

__all__ = ["DEEDS"]

_MAX_TRANSFERS: Final = 12
_LEAST_FAST_MTU: Final = 576
"""With a smaller one, a transfer has few bytes: a thousand packets that are held back make a thousand deadlines."""
_MOST_DATA: Final = 200_000
"""Bytes that fill a window at once."""
_LEAST_SACK_MTU: Final = 100
"""The simulated guest reports as many blocks as a header holds, which need not fit into a smaller packet."""


def _frame(world: World, one: steps.GuestSendsFrame) -> None:
    world.receive(one.frame)


def _repeat(world: World, one: steps.GuestRepeats) -> None:
    if len(world.frames_in) >= one.back:
        world.receive(world.frames_in[-one.back])


def _attach(world: World, one: steps.GuestAttaches) -> None:
    world.network.guest_attached(world.now)


def _connect(world: World, one: steps.GuestConnects) -> None:
    address = ADDRESSES[one.remote]
    remote = Endpoint(address, one.remote_port)
    guest = endpoint(world, len(address), one.port)
    before = world.conversations.latest.get(one.port)
    first = (before.sequence + 100_000) % (1 << 32) if before is not None else 1000
    known = world.conversations.begin(guest, remote, first, one.begins)
    options: dict[str, Any] = {"mss": one.mss, "scale": one.scale, "sack_permitted": one.sack}
    syn = Segment(*guest, *remote, first, 0, SYN, one.window, b"", **options)
    send(world, syn.ip())
    world.settle()
    if one.completes and known.network_first is not None:
        send(world, segment(known, ACK, one.window).ip())


def _data(world: World, one: steps.GuestSends) -> None:
    known = world.conversations.latest.get(one.port)
    if known is None or known.ended:
        return
    known.position = max(known.position, known.acknowledged)
    mss, lost = 1400, one.lost
    left = one.size if one.edge is None else max(min(known.edge + one.edge - known.position, _MOST_DATA), 0)
    while True:
        size = min(left, mss)
        left -= size
        last = not left
        flags = ACK | (PSH if size else 0) | (FIN if one.ends and last else 0)
        payload = known.content.at(known.position, size)
        if not lost:
            packet = segment(known, flags, one.window, payload).ip()
            send(world, packet)
            if not world.wait and len(packet.emit()) <= world.config.link.mtu:
                known.note_taken()
        lost = False
        known.position += size
        if last:
            break
    if one.edge is not None and one.lost:
        known.position = min(known.position, known.edge)
    elif one.edge is not None or one.size > 20_000:
        known.position = known.acknowledged  # it is sent again if it was not taken
    else:
        known.ended = one.ends


def _wild(world: World, one: steps.GuestSendsSegment) -> None:
    known = world.conversations.latest.get(one.port)
    if known is None:
        return
    base = segment(known, one.flags, one.window)
    sequence = base.sequence + one.sequence
    if one.edge:
        sequence = (known.first or 0) + 1 + known.edge + one.sequence
    sequence %= 1 << 32
    place = (sequence + bool(one.flags & SYN)) % (1 << 32)
    blocks = tuple(known.expected + start for start in one.sack)
    sack = tuple(zip(blocks, (start + 1000 for start in blocks), strict=True))
    wrong = replace(
        base,
        sequence=sequence,
        acknowledgment=(known.expected + one.acknowledgment) % (1 << 32),
        payload=known.payload(place, min(one.size, 20_000)),
        sack=tuple((left % (1 << 32), right % (1 << 32)) for left, right in sack),
        raw_options=one.options or None,
        urgent=5 if one.flags & 32 else 0,
    )
    send(world, wrong.ip())


def _datagram(world: World, one: steps.GuestSendsDatagram) -> None:
    address = ADDRESSES[one.remote]
    packet = udp(world.guest.address(len(address)), one.port, address, one.remote_port, bytes(one.size))
    packet = replace(packet, ttl=one.ttl, tos=one.tos)
    if not (one.run and world.config.link.vnet_header):
        send(world, packet, one.fragment)
        return
    start = 34 if packet.version == 4 else 54
    head = struct.pack("<BBHHHHH", 1, 5, start + 8, one.run, start, 6, 0)
    kind = IPV4 if packet.version == 4 else IPV6
    world.receive(head + ethernet(world.config.mac, world.guest.mac, kind, packet.emit()))


def _ask(world: World, one: steps.GuestAsks) -> None:
    server = ADDRESSES[one.server]
    twists = one.twists
    data = query(
        one.port,
        one.name,
        one.type,
        questions={"two questions": 2, "no question": 0}.get(twists, 1),
        flags=0x8180 if twists == "response" else 0x0100,
        class_=3 if twists == "class" else 1,
    )
    if twists == "edns":
        data = data[:10] + b"\0\1" + data[12:] + b"\0" + struct.pack("!HHIH", 41, 65535, 0x8000, 0)
    if twists == "cut":
        data = data[:-3]
    send(world, udp(world.guest.address(len(server)), one.port, server, 53, data))


def _ping(world: World, one: steps.GuestPings) -> None:
    address = ADDRESSES[one.remote]
    source = world.guest.address(len(address))
    packet = echo_request(source, address, one.identifier, one.sequence, bytes(one.size))
    send(world, replace(packet, ttl=one.ttl), one.fragment)


def _report(world: World, one: steps.GuestReports) -> None:
    if len(world.frames_out) < one.back:
        return
    quoted = bytearray(world.frames_out[-one.back][: one.size])
    if 0 <= one.changed < len(quoted):
        quoted[one.changed] ^= 0x11
    version = 4 if world.frames_out[-one.back][0] >> 4 == 4 else 6
    source = world.guest.address(4 if version == 4 else 16)
    remote = world.frames_out[-one.back][12:16] if version == 4 else world.frames_out[-one.back][8:24]
    send(world, icmp(source, remote, one.type, one.code, bytes(4) + bytes(quoted)))


def _transfer(world: World, one: steps.GuestTransfers) -> None:
    limits = world.config.limits
    slow = min(limits.tcp_memory, limits.tcp_window, limits.tcp_send_buffer) < 1460
    most = 200 if slow else 3000 if world.config.link.mtu < _LEAST_FAST_MTU else 1 << 20
    if len(world.transfers) < _MAX_TRANSFERS:
        sack = one.sack and world.config.link.mtu > _LEAST_SACK_MTU
        options = GuestTcpOptions(one.mss, one.window, None, sack, delayed_ack=one.delayed_ack)
        remote = Endpoint(ADDRESSES[one.remote], one.remote_port)
        world.transfer(remote, options, min(one.up, most), min(one.down, most))


def _cable(world: World, one: steps.CableChanges) -> None:
    world.cable(Impairment(loss=one.loss, duplicate=one.duplicate, reorder=one.reorder, delay=one.delay))


DEEDS: Final[dict[type[Operation], Callable[[World, Any], None]]] = {
    steps.GuestSendsFrame: _frame,
    steps.GuestRepeats: _repeat,
    steps.GuestAttaches: _attach,
    steps.GuestConnects: _connect,
    steps.GuestSends: _data,
    steps.GuestSendsSegment: _wild,
    steps.GuestSendsDatagram: _datagram,
    steps.GuestAsks: _ask,
    steps.GuestPings: _ping,
    steps.GuestReports: _report,
    steps.GuestTransfers: _transfer,
    steps.CableChanges: _cable,
}
