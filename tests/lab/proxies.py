"""Proxies of a laboratory's upstream: SOCKS5 with its relay of datagrams, and HTTP CONNECT, both with credentials.

They resolve names by a table of their own, and note what they are asked for.
"""

from __future__ import annotations

import errno
import select
import socket
import threading
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from tests.lab.namespaces import Namespace
from tests.lab.servers import served

__all__ = ["HttpProxy", "SocksProxy"]

_REPLIES = {errno.ECONNREFUSED: 5, errno.EHOSTUNREACH: 4, errno.ENETUNREACH: 3, errno.EACCES: 2}


class _Proxy:
    """A proxy in a namespace.

    Args:
        namespace: where it runs and connects from.
        names: name -> address.
        credentials: `user:password` that it demands; none if empty.

    Attributes:
        asked: host and port of each request, in order.
    """

    def __init__(self, namespace: Namespace, names: Mapping[str, str], credentials: str = "") -> None:
        self.namespace = namespace
        self.names = names
        self.credentials = credentials
        self.asked: list[tuple[str, int]] = []

    @contextmanager
    def on(self, address: str) -> Iterator[int]:
        """Serve at an address for the block; yield the port."""
        with served(self.namespace.listen(address), self.serve) as port:
            yield port

    def serve(self, client: socket.socket) -> None:
        """Serve one connection."""
        raise NotImplementedError

    def connect(self, host: str, port: int) -> socket.socket:
        """Connect to a destination. Raises `OSError`."""
        self.asked.append((host, port))
        return self.namespace.connect(self.address(host), port)

    def address(self, host: str) -> str:
        """The address of a host."""
        if host.replace(".", "").isdigit() or ":" in host:
            return host
        if host not in self.names:
            raise OSError(errno.EHOSTUNREACH, "unknown name")
        return self.names[host]


def _exactly(stream: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = stream.recv(size - len(data))
        if not more:
            raise ConnectionResetError
        data += more
    return data


def _relay(one: socket.socket, other: socket.socket) -> None:
    """Copy in both directions until both have ended."""

    def copy(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    back = threading.Thread(target=copy, args=(other, one), daemon=True)
    back.start()
    copy(one, other)
    back.join(60)


class SocksProxy(_Proxy):
    """SOCKS5 (RFC 1928 and RFC 1929)."""

    def __init__(self, namespace: Namespace, names: Mapping[str, str], credentials: str = "") -> None:
        super().__init__(namespace, names, credentials)
        self._associations: list[socket.socket] = []

    def end_associations(self) -> None:
        """End the streams of all associations."""
        for stream in self._associations:
            with suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)

    def serve(self, client: socket.socket) -> None:
        version, count = _exactly(client, 2)
        assert version == 5
        methods = _exactly(client, count)
        if self.credentials:
            if 2 not in methods:
                client.sendall(b"\5\xff")
                return
            client.sendall(b"\5\2")
            user = _exactly(client, _exactly(client, 2)[1]).decode()
            password = _exactly(client, _exactly(client, 1)[0]).decode()
            right = f"{user}:{password}" == self.credentials
            client.sendall(b"\1\0" if right else b"\1\1")
            if not right:
                return
        else:
            client.sendall(b"\5\0")
        _, command, _, kind = _exactly(client, 4)
        host, port = self._destination(client, kind)
        if command == 3:
            self._associate(client)
            return
        try:
            other = self.connect(host, port)
        except OSError as error:
            client.sendall(bytes([5, _REPLIES.get(error.errno or 0, 1), 0, 1]) + bytes(6))
            return
        with other:
            client.sendall(b"\5\0\0\1" + bytes(6))
            _relay(client, other)

    def _destination(self, client: socket.socket, kind: int) -> tuple[str, int]:
        if kind == 3:
            host = _exactly(client, _exactly(client, 1)[0]).decode()
        else:
            family, size = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
            host = socket.inet_ntop(family, _exactly(client, size))
        return host, int.from_bytes(_exactly(client, 2), "big")

    def _associate(self, client: socket.socket) -> None:
        self._associations.append(client)
        address = client.getsockname()[0]
        family = client.family
        outside = {
            kind: self.namespace.open_socket(kind, socket.SOCK_DGRAM) for kind in (socket.AF_INET, socket.AF_INET6)
        }
        with self.namespace.datagram(address) as relay, outside[socket.AF_INET], outside[socket.AF_INET6]:
            port = relay.getsockname()[1]
            kind = 1 if family == socket.AF_INET else 4
            client.sendall(bytes([5, 0, 0, kind]) + socket.inet_pton(family, address) + port.to_bytes(2, "big"))
            peer = None
            while True:
                ready, _, _ = select.select([client, relay, *outside.values()], [], [], 60)
                if not ready or client in ready:
                    return  # the association ends with its stream
                for one in ready:
                    data, source = one.recvfrom(65536)
                    if one is relay:
                        peer = source
                        self._send_out(outside, data)
                    elif peer is not None:
                        packed = socket.inet_pton(one.family, source[0])
                        head = b"\0\0\0" + bytes([1 if one.family == socket.AF_INET else 4]) + packed
                        relay.sendto(head + source[1].to_bytes(2, "big") + data, peer)

    def _send_out(self, outside: Mapping[socket.AddressFamily, socket.socket], datagram: bytes) -> None:
        assert datagram[:3] == bytes(3)
        kind = datagram[3]
        start, size = (5, datagram[4]) if kind == 3 else (4, 4 if kind == 1 else 16)
        packed = datagram[start : start + size]
        host = (
            packed.decode() if kind == 3 else socket.inet_ntop(socket.AF_INET if kind == 1 else socket.AF_INET6, packed)
        )
        port = int.from_bytes(datagram[start + size : start + size + 2], "big")
        self.asked.append((host, port))
        with suppress(OSError):
            address = self.address(host)
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            outside[family].sendto(datagram[start + size + 2 :], (address, port))


class HttpProxy(_Proxy):
    """HTTP CONNECT (RFC 9110, 9.3.6) with Basic credentials."""

    def serve(self, client: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += _exactly(client, 1)
        first, *fields = head.decode().split("\r\n")
        method, target, version = first.split(" ")
        if method != "CONNECT" or version != "HTTP/1.1" or f"Host: {target}" not in fields:
            client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            return
        given = [field.partition(" Basic ")[2] for field in fields if field.startswith("Proxy-Authorization:")]
        if self.credentials and [b64decode(one).decode() for one in given] != [self.credentials]:
            client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n")
            return
        host, _, port = target.rpartition(":")
        try:
            other = self.connect(host.strip("[]"), int(port))
        except OSError as error:
            status = b"503 Refused" if error.errno == errno.ECONNREFUSED else b"502 Bad Gateway"
            client.sendall(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
            return
        with other:
            client.sendall(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 lab\r\n\r\n")
            _relay(client, other)
