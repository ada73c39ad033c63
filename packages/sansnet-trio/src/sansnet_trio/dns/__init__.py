"""A DNS server for guests, as a service of the program: a guest gets a world of names. Needs `sansnet-trio[dns]`.

Example::

    server = DnsServer({
        "app.internal": "10.9.0.1",
        "*.cdn.example": ["10.9.0.2", "fd00::2"],
        "www.example": "CNAME app.internal",
        "_http._tcp.example": ["300 SRV 0 0 80 app.internal", "300 SRV 1 0 80 spare.internal"],
        "text.example": 'TXT "a text with spaces"',
        "secure.example": "HTTPS 1 . alpn=h2 ipv4hint=10.9.0.1",
        "10.9.0.7": "PTR printer.internal",
        "broken.example": "SERVFAIL",
        "dynamic.example": ask_the_inventory,
    }, otherwise="REFUSED")
    await nursery.start(partial(server.serve, services, host="10.9.0.53"))

Names are text, in any case, with or without the final dot. `*` as the first label makes a wildcard: it stands for all
names below the rest that have no entry themselves and are not below a name with an entry (RFC 4592). An IP address
stands for its reverse name. A name with an SOA record begins a zone: names below it that have no entry do not exist.

Records are one value or a list:

- an address: text, an `ipaddress` object, 4 or 16 bytes;
- `"[TTL] TYPE DATA"`, as in a zone file (RFC 1035, section 5.1); names in it are complete without the final dot too;
- a record of dnspython, or an rdataset with its TTL;
- the name of a response code, such as `"NXDOMAIN"`, instead of records; None is `"NXDOMAIN"`;
- a callable, sync or async, that takes a `Question` and returns any of these. A list without records means that the
  name exists, but has nothing of the type.

CNAME records are followed as far as the server knows their targets. To forward names to other servers, let
`otherwise` be a callable that asks them, for example with `dns.asyncresolver.resolve`.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("dns") is None:
    raise ModuleNotFoundError(
        "sansnet_trio.dns needs dnspython, which is not installed: install sansnet-trio[dns]", name="dns"
    )

from sansnet_trio.dns.exchange import OnQuery
from sansnet_trio.dns.records import Answer, Answerer, Question, Record, Value
from sansnet_trio.dns.server import DnsServer, DnsStatistics

__all__ = ["Answer", "Answerer", "DnsServer", "DnsStatistics", "OnQuery", "Question", "Record", "Value"]
