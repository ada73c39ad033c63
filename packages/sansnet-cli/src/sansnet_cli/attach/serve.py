"""The second half of `sansnet attach`, with trio: the network of a namespace that is configured."""

from __future__ import annotations

import signal
from collections.abc import Collection

import trio

from sansnet_cli.runtime.session import Session
from sansnet_cli.runtime.termination import cancel_when_signalled, terminating_signals
from sansnet_trio.guest.errors import GuestError
from sansnet_trio.links import Link, LinkClosed

__all__ = ["serve"]


def serve(session: Session, link: Link, mask: Collection[int]) -> None:
    """Serve the network of a namespace until it is gone or a signal comes.

    Args:
        session: the guest's session.
        link: the guest's link; closed at the end.
        mask: the signals to block from now on. The caller has blocked `TERMINATING`.

    Raises:
        GuestError: the guest's interface went away.
    """
    trio.run(_serve, session, link, mask)


async def _serve(session: Session, link: Link, mask: Collection[int]) -> None:
    with terminating_signals() as signals:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        async with session.running() as nursery:
            nursery.start_soon(cancel_when_signalled, nursery.cancel_scope, signals)
            nursery.start_soon(_cancel_when_gone, nursery.cancel_scope, session)
            try:
                async with session.serving(link):
                    await trio.sleep_forever()
            except LinkClosed as error:
                raise GuestError(f"the guest has lost its interface: {error}") from error


async def _cancel_when_gone(scope: trio.CancelScope, session: Session) -> None:
    await session.wait_gone()
    scope.cancel()
