"""The dialogues with proxies, which may be hostile.

Any answer ends the dialogue with success or an errno, or is waited for; however it is cut, the outcome is the same, and
no byte behind the dialogue is read.
"""

from __future__ import annotations

from collections.abc import Iterator

from fuzz.choices import Choices
from fuzz.registry import target
from sansnet_core.proxy.handshake import Destination, Handshake
from sansnet_core.proxy.http_connect import HttpConnect
from sansnet_core.proxy.socks5 import HEADER_ROOM, Socks5, associate_request, connect_request, unwrap, wrap

__all__ = ["http_proxy", "relayed_datagram", "socks_proxy"]


def _lead(handshake: Handshake, answer: bytes, sizes: Iterator[int]) -> tuple[object, ...]:
    """The outcome: the errno, what was sent, and how many bytes were read if all is well."""
    sent = [handshake.start()]
    read = 0
    while not handshake.done and read < len(answer):
        assert 0 < handshake.needed <= 65536
        piece = answer[read : read + min(handshake.needed, next(sizes))]
        read += len(piece)
        sent.append(handshake.receive(piece))
    assert handshake.done == (handshake.needed == 0)
    if handshake.errno:
        return (handshake.errno,)
    return handshake.done, b"".join(sent), read


def _sizes(choices: Choices) -> Iterator[int]:
    while True:
        yield 1 + choices.number(16)


def _whole() -> Iterator[int]:
    while True:
        yield 1 << 20


@target(max_size=600, seeds=lambda: [b"\0\1\0\5\0\5\0\0\1\x7f\0\0\1\0\x50", b"\1\0\0\5\2\1\0\5\0\0\3\4name\0\x50"])
def socks_proxy(data: bytes) -> None:
    """A SOCKS5 proxy."""
    choices = Choices(data)
    user = "user" if choices.flag() else None
    request = connect_request(Destination("name.example", 80)) if choices.flag() else associate_request(16)
    cuts = Choices(choices.take(choices.number(16)))
    answer = choices.rest()
    first, second = (Socks5(request, user, "secret") for _ in range(2))
    assert _lead(first, answer, _whole()) == _lead(second, answer, _sizes(cuts))
    assert first.bound == second.bound
    if first.done and first.errno == 0 and first.bound is not None:
        assert len(first.bound.address) in (4, 16)
        assert 0 <= first.bound_port <= 65535


@target(
    max_size=600,
    seeds=lambda: [b"\0\0HTTP/1.1 200 OK\r\nA: b\r\n\r\nrest", b"\0\0HTTP/1.1 100 \r\n\r\nHTTP/1.0 407 no\n\n"],
    words=(b"HTTP/1.1 200 ", b"HTTP/1.1 102 ", b"\r\n\r\n", b"\n\n", b"\n\r\n"),
)
def http_proxy(data: bytes) -> None:
    """A proxy of HTTP CONNECT."""
    choices = Choices(data)
    user = "user" if choices.flag() else None
    cuts = Choices(choices.take(choices.number(16)))
    answer = choices.rest()
    first, second = (HttpConnect(Destination("name.example", 80), user) for _ in range(2))
    outcome = _lead(first, answer, _whole())
    assert outcome == _lead(second, answer, _sizes(cuts))
    if first.done and first.errno == 0:
        head = answer[: int(str(outcome[2]))]
        assert head.endswith((b"\n\r\n", b"\n\n")), "bytes behind the head were read"


@target(max_size=400, seeds=lambda: [b"\0\0\0\1\x7f\0\0\1\0\x35data", b"\0\0\0\3\4Name\0\x35data"])
def relayed_datagram(data: bytes) -> None:
    """A datagram of a SOCKS5 relay."""
    found = unwrap(data)
    if found is None:
        return
    source, payload = found
    assert data.endswith(bytes(payload))
    if isinstance(source.host, bytes) or not source.host.endswith("."):  # only the last dot of several is left out
        wrapped = wrap(source, payload)
        assert len(wrapped) <= len(payload) + HEADER_ROOM
        assert unwrap(wrapped) == found
