"""Answers DNS queries for the names in the configuration.

Theory of operation. The guest sends its queries to the name servers of the configuration. A query over UDP for one of
the configured names is answered here, as if by that server; all others are forwarded unchanged. So only the configured
names are affected, and the server never sees a query for them. Queries over TCP, over TLS or to other servers are not
examined.

If a name has addresses of one family only, queries for other types of record get an empty answer (RFC 2308, 2.2), so
that the client does not try other servers.
"""

from __future__ import annotations

from typing import Final

from sansnet_core.config import NetworkConfig
from sansnet_core.context import Context
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.notices import NameAsked
from sansnet_core.orders import Buffer
from sansnet_core.wire import dns, dns_names, udp
from sansnet_core.wire.ip import UDP, IpHeader

__all__ = ["Names"]

_SIZES: Final = {dns.A: 4, dns.AAAA: 16}
"""Type of record -> bytes of its address."""


@mypyc_attr(allow_interpreted_subclasses=True)
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
            buf: the buffer that they refer to.

        Returns:
            Whether it was answered; if not, the caller must forward it.
        """
        context = self._context
        if context.config is not self._config:
            self._configure(context.config)
        if ip.destination not in self._servers or context.gso_size:
            return False
        query = dns.parse_query(buf[header.start : header.end])
        if query is None or query.name not in self._hosts:
            return False
        name, addresses = self._hosts[query.name]
        context.notify(NameAsked(name, bool(addresses), context.now))
        if not addresses:
            return False
        type_ = query.type
        if type_ == dns.ANY:  # records of one type are enough (RFC 8482, 4.1)
            type_ = dns.A if len(addresses[0]) == 4 else dns.AAAA
        found = [address for address in addresses if len(address) == _SIZES.get(type_)]
        message = dns.emit_answer(query, type_, found)
        datagram = udp.emit(ip.destination, ip.source, header.destination_port, header.source_port, message)
        context.egress.packet(ip.destination, ip.source, UDP, datagram)
        return True
