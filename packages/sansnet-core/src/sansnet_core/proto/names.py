"""Names that are answered here: a few that the configuration has, in queries to the guest's name servers.

Theory of operation. A guest sends its queries to the name servers that it was told of. Those that ask for one of our
names over UDP get their answer from here, as if from that server; all others are forwarded untouched. So no name of
ours hides another one, and the server never learns of ours. Queries over TCP, over TLS or to other servers are not
looked into.

A name that has addresses of one family only has no records of the other one, nor of any other type: the answer to such
a question is empty (RFC 2308, 2.2), which keeps a client from asking elsewhere.
"""

from __future__ import annotations

from typing import Final

from sansnet_core.addresses import is_unspecified
from sansnet_core.config import NetworkConfig
from sansnet_core.context import Context
from sansnet_core.notices import NameAsked
from sansnet_core.orders import Buffer
from sansnet_core.wire import dns, dns_names, udp
from sansnet_core.wire.ip import UDP, IpHeader

__all__ = ["Names"]

_SIZES: Final = {dns.A: 4, dns.AAAA: 16}
"""Type of a record -> bytes of its address."""


class Names:
    """Answers queries for the names in `NetworkConfig.hosts`.

    Args:
        context: of the network.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._configure(context.config)

    def _configure(self, config: NetworkConfig) -> None:
        self._config = config
        self._servers = frozenset((*config.dns_servers, *(match for match, _ in config.dns_forward)))
        self._hosts = {dns_names.emit(name).lower(): (name, addresses) for name, addresses in config.hosts}

    def answer(self, ip: IpHeader, header: udp.UdpHeader, buf: Buffer) -> bool:
        """Answer a datagram to port 53.

        Args:
            ip: its IP header.
            header: its UDP header.
            buf: holds it.

        Returns:
            Whether it is answered; if not, it is to be forwarded.
        """
        context = self._context
        if context.config is not self._config:
            self._configure(context.config)
        if ip.destination not in self._servers or context.gso_size or is_unspecified(ip.source):
            return False
        query = dns.parse_query(buf[header.start : header.end])
        if query is None or query.name not in self._hosts:
            return False
        name, addresses = self._hosts[query.name]
        context.notify(NameAsked(name, bool(addresses)))
        if not addresses:
            return False
        type_ = query.type
        if type_ == dns.ANY:  # one kind of records is enough (RFC 8482, 4.1)
            type_ = dns.A if len(addresses[0]) == 4 else dns.AAAA
        found = [address for address in addresses if len(address) == _SIZES.get(type_)]
        message = dns.emit_answer(query, type_, found)
        datagram = udp.emit(ip.destination, ip.source, header.destination_port, header.source_port, message)
        context.egress.packet(ip.destination, ip.source, UDP, datagram)
        return True
