"""Services in the program: the program's own tasks are the other end of the guest's connections and datagrams."""

from __future__ import annotations

from sansnet_trio.services.datagrams import GuestDatagramChannel, GuestDatagrams, Peer
from sansnet_trio.services.listener import GuestListener
from sansnet_trio.services.services import Services
from sansnet_trio.services.streams import GuestStream

__all__ = ["GuestDatagramChannel", "GuestDatagrams", "GuestListener", "GuestStream", "Peer", "Services"]
