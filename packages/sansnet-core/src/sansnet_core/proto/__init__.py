"""Protocols: what the guest's packets cause.

Modules here never import each other; `network.py` wires them together. Each takes a `Context`, which is also its only
way to the outside. Responders (ARP, NDP, DHCP, echo to ourselves) answer at once; translators (UDP, echo, TCP) own
flows and take the facts about their sockets as well; IPv4 and IPv6 sort packets to both. Whatever the guest sends,
a module does its work, counts a drop, or raises `Malformed`, which `network.py` counts.
"""
