"""Protocols: how each kind of packet from the guest is handled.

Modules here do not import each other, except for `icmp_errors` and `reassembly`, which several of them use.
`network.py` makes them and connects them. Each takes a `Context` and uses nothing else. Responders (ARP, NDP, DHCP,
echo to our own addresses) answer at once. Translators (UDP, echo, TCP) own flows and also take the facts about their
sockets. IPv4 and IPv6 pass packets on to both. A module handles each packet of the guest, counts a drop, or raises
`Malformed`, which `network.py` counts.
"""
