"""Ports of one side that lead to the other: bound before anything starts, served while there is a guest.

Theory of operation. `Forwards` holds *rules*, which are `Forward`s without overlaps, and for each a number of *doors*:
sockets that listen. From rules and from what is known of the other side's listeners follows where doors are wanted
(`_wanted`); whenever one of the two changes, doors are closed and opened until they are there (`_arrange`). Doors of the
guest's side can only be opened when there is a guest (`enter`).

The doors outlive guests. A driver serves them while it runs: between two guests connections wait in the backlog.

Who comes through a door goes one of two ways. From loopback to the loopback of a guest that is a namespace, which needs
no frames: connections are spliced, datagrams relayed. All others go through the network, as SYNs and datagrams.

Nothing goes in a circle: a weak rule never opens a door to a port that is a door of ours on the other side, and what
would come out at a door of ours in the guest is refused.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from select import EPOLLIN
from socket import AF_INET6, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_STREAM
from socket import socket as Socket
from typing import Final

from sansnet_core import Endpoint
from sansnet_core.addresses import is_loopback
from sansnet_core.ports import TCP, UDP, Forward, combine, without
from sansnet_trio.agent import GuestSockets
from sansnet_trio.doors import Door, Doorkeeper
from sansnet_trio.listening import LOOPBACK, SHORTAGE, ForwardError, Spot, ephemeral_ports, open_spot, refusal, spots
from sansnet_trio.occupied import occupied
from sansnet_trio.shell import Shell
from sansnet_trio.sockets import HostSockets

__all__ = ["Forwards"]
