"""The link over the connection of a virtual machine, of either protocol."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import TypeAlias

from sansnet_trio.links import unix_stream, vhost_user

__all__ = ["MachineLink", "machine_link"]

MachineLink: TypeAlias = unix_stream.UnixStream | vhost_user.VhostUserLink
"""The link of a machine."""


@asynccontextmanager
async def machine_link(
    connection: socket.socket, *, use_vhost_user: bool, mtu: int | None, allow_unsealed: bool = False
) -> AsyncIterator[MachineLink]:
    """The link of a machine that has connected, as long as the block runs, which begins when its card is started.

    Args:
        connection: the connection; closed at the end.
        use_vhost_user: whether the protocol is vhost-user, and not that of `-netdev stream`.
        mtu: the MTU of the machine's card, in bytes; None is the default of the protocol.
        allow_unsealed: see `VhostUserLink`.

    Raises:
        LinkClosed, OSError: the machine is gone.
    """
    if not use_vhost_user:
        with closing(unix_stream.UnixStream(connection, mtu=mtu or unix_stream.MTU.default)) as link:
            yield link
        return
    with closing(vhost_user.VhostUserLink(connection, mtu=mtu, allow_unsealed=allow_unsealed)) as shared:
        await shared.wait_started()
        yield shared
