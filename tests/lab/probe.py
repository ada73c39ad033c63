"""Tries of a guest, as a program: `python probe.py KIND ARGUMENTS...`. It prints one line about the outcome.

- `tcp HOST PORT TEXT`: connect, send, print the answer; `HOST` may be a name.
- `tls HOST PORT NAME [PIECE]`: a TLS client that asks for NAME (`-` for no server name), in pieces of PIECE bytes.
- `udp HOST PORT TEXT`: send a datagram.
- `raw4 ADDRESS PROTOCOL TEXT` and `raw6`: a packet of another protocol, if the guest's root may.
- `fragments ADDRESS PORT TEXT`: a datagram of 5000 bytes.
- `dns SERVER NAME TYPE [tcp]`: ask a name server.
- `wire SERVER HEX`: send a datagram to port 53.
"""

from __future__ import annotations

import errno
import socket
import ssl
import sys
from collections.abc import Callable


def connect(host: str, port: int) -> socket.socket:
    """As programs do: each address of the name in turn."""
    failure: OSError | None = None
    for family, kind, protocol, _, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        stream = socket.socket(family, kind, protocol)
        stream.settimeout(5)
        try:
            stream.connect(place)
        except OSError as error:
            stream.close()
            failure = error
        else:
            return stream
    assert failure is not None
    raise failure


def line(data: bytes) -> str:
    """The answer without the headers of HTTP."""
    return data.decode("ascii", "replace").strip().splitlines()[-1] if data else "closed"


def tcp(host: str, port: str, text: str) -> str:
    with connect(host, int(port)) as stream:
        stream.sendall(text.encode().decode("unicode_escape").encode("latin-1"))
        return line(stream.recv(4096))


def tls(host: str, port: str, name: str, piece: str = "") -> str:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=None if name == "-" else name)
    size = int(piece or 65536)
    with connect(host, int(port)) as stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def send() -> None:
            data = outgoing.read()
            for start in range(0, len(data), size):
                stream.sendall(data[start : start + size])

        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                send()
                data = stream.recv(65536)
                if not data:
                    return "closed"
                incoming.write(data)
        client.write(b"GET / HTTP/1.0\r\n\r\n")
        send()
        while True:
            try:
                return line(client.read(4096))
            except ssl.SSLWantReadError:
                data = stream.recv(65536)
                if not data:
                    return "closed"
                incoming.write(data)


def udp(host: str, port: str, text: str) -> str:
    for family, kind, protocol, _, place in socket.getaddrinfo(host, int(port), type=socket.SOCK_DGRAM):
        with socket.socket(family, kind, protocol) as datagrams:
            datagrams.settimeout(1)
            # IP_MTU_DISCOVER and IPV6_MTU_DISCOVER (linux/in.h): let the guest's kernel make fragments
            datagrams.setsockopt(
                *((socket.IPPROTO_IPV6, 23) if family == socket.AF_INET6 else (socket.IPPROTO_IP, 10)), 0
            )
            datagrams.connect(place)
            for _ in range(2):
                datagrams.send(text.encode())
            try:
                return line(datagrams.recv(4096))
            except TimeoutError:
                continue
    return "no answer"


def fragments(address: str, port: str, text: str) -> str:
    return udp(address, port, text + "x" * 5000)


def raw(family: int, address: str, protocol: str, text: str) -> str:
    with socket.socket(family, socket.SOCK_RAW, int(protocol)) as packets:
        packets.sendto(text.encode() + bytes(40), (address, 0))
    return "sent"


def dns(server: str, name: str, kind: str, by: str = "udp") -> str:
    import dns.message
    import dns.query
    import dns.rcode

    query = dns.message.make_query(name, kind)
    ask = dns.query.tcp if by == "tcp" else dns.query.udp
    reply = ask(query, server, timeout=4)
    records = [str(record) for found in reply.answer for record in found]
    return " ".join([dns.rcode.to_text(reply.rcode()), *records])


def wire(server: str, message: str) -> str:
    with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.settimeout(3)
        datagrams.sendto(bytes.fromhex(message), (server, 53))
        return datagrams.recv(4096).hex()


def main() -> None:
    kind, *arguments = sys.argv[1:]
    works: dict[str, Callable[..., str]] = {
        "tcp": tcp,
        "tls": tls,
        "udp": udp,
        "dns": dns,
        "wire": wire,
        "fragments": fragments,
        "raw4": lambda *rest: raw(socket.AF_INET, *rest),
        "raw6": lambda *rest: raw(socket.AF_INET6, *rest),
    }
    try:
        print(works[kind](*arguments))
    except socket.gaierror as error:
        print(f"no address: {error.strerror}")
    except TimeoutError:
        print("no answer")
    except ssl.SSLError as error:
        print(f"TLS: {error.reason}")
    except OSError as error:
        print(errno.errorcode.get(error.errno or 0, str(error)))
    except Exception as error:
        print(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
