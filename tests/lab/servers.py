"""Small servers in threads of the test process, on sockets of any namespace."""

from __future__ import annotations

import resource
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.lab.namespaces import Namespace

__all__ = ["DnsServer", "Echo", "answered", "held", "served"]

_MAX_UDP_REPLY: Final = 512
"""Bytes of a DNS reply over UDP without EDNS (RFC 1035, 4.2.1)."""
_SPARE_DESCRIPTORS: Final = 256
"""Descriptors that `held` leaves to the test."""


@contextmanager
def served(listener: socket.socket, serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve each connection in a thread of its own; yield the port.

    `serve` gets a connected socket that is closed for it. Errors of sockets end a connection, and nothing else.
    """

    def handle(stream: socket.socket) -> None:
        with stream:
            stream.settimeout(60)
            with suppress(OSError):
                serve(stream)

    def accept() -> None:
        while True:
            try:
                stream, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=handle, args=(stream,), daemon=True).start()

    listener.settimeout(None)
    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        _stop(listener, thread)


@contextmanager
def held(listener: socket.socket) -> Iterator[int]:
    """Accept and keep connections in one thread, since thousands would wake at once. Yield the port.

    When this process has few descriptors left, the next connections stay in the listener's queue.
    """
    streams: list[socket.socket] = []
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE_DESCRIPTORS

    def accept() -> None:
        with suppress(OSError):
            while len(streams) < most:
                streams.append(listener.accept()[0])

    listener.settimeout(None)
    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        _stop(listener, thread)
        for stream in streams:
            stream.close()


def _stop(waiting: socket.socket, thread: threading.Thread) -> None:
    """End a thread that waits for this socket, and close it."""
    with suppress(
        OSError
    ):  # on an unconnected datagram socket it fails with ENOTCONN, and wakes the reader all the same
        waiting.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    waiting.close()


@contextmanager
def answered(datagrams: socket.socket, answer: Callable[[bytes], bytes]) -> Iterator[None]:
    """Answer each datagram of a socket with the result of a function, and close the socket at the end."""

    def serve() -> None:
        while True:
            try:
                data, source = datagrams.recvfrom(65536)
            except OSError:
                return
            if not source:  # the wake-up of _stop
                return
            datagrams.sendto(answer(data), source)

    datagrams.settimeout(None)
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        _stop(datagrams, thread)


class Echo:
    """Sends back what it gets, over TCP and UDP."""

    @staticmethod
    def stream(stream: socket.socket) -> None:
        """Serve one connection; its end of input becomes the end of output."""
        while data := stream.recv(1 << 16):
            stream.sendall(data)

    @staticmethod
    @contextmanager
    def datagrams(datagrams: socket.socket) -> Iterator[int]:
        """Serve a datagram socket; yield its port."""
        with answered(datagrams, lambda data: data):
            yield datagrams.getsockname()[1]


class DnsServer:
    """A name server with a fixed zone, over UDP and TCP, that truncates as RFC 1035 says.

    Attributes:
        questions: names asked for so far, as text without the last dot.
    """

    def __init__(self, zone: Mapping[tuple[str, str], list[str]]) -> None:
        self._zone = zone
        self.questions: list[str] = []

    @contextmanager
    def on(self, namespace: Namespace, *addresses: str, port: int = 53) -> Iterator[None]:
        """Serve a port of these addresses of a namespace."""
        with ExitStack() as stack:
            for address in addresses:
                stack.enter_context(answered(namespace.datagram(address, port), self._datagram))
                stack.enter_context(served(namespace.listen(address, port), self._stream))
            yield

    def _answer(self, data: bytes) -> dns.message.Message:
        query = dns.message.from_wire(data)
        reply = dns.message.make_response(query, recursion_available=True)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True)
        self.questions.append(name)
        kind = dns.rdatatype.to_text(question.rdtype)
        if texts := self._zone.get((name, kind)):
            reply.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *texts))
        elif not any(known == name for known, _ in self._zone):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply

    def _datagram(self, data: bytes) -> bytes:
        reply = self._answer(data)
        wire = reply.to_wire(max_size=65535)
        if len(wire) > _MAX_UDP_REPLY:
            reply.answer.clear()
            reply.flags |= dns.flags.TC
            wire = reply.to_wire()
        return wire

    def _stream(self, stream: socket.socket) -> None:
        file = stream.makefile("rb")
        while len(prefix := file.read(2)) == 2:
            wire = self._answer(file.read(struct.unpack("!H", prefix)[0])).to_wire(max_size=65535)
            stream.sendall(struct.pack("!H", len(wire)) + wire)
