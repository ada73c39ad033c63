"""A network for a namespace that exists already, as an async context manager."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from sansnet_core.errors import expect
from sansnet_trio.front.setup import network_of, open_ports, warn
from sansnet_trio.guest.attached import AttachedGuest
from sansnet_trio.guest.errors import GuestError
from sansnet_trio.guest.target import ExistingNamespace
from sansnet_trio.links import LinkClosed
from sansnet_trio.links.tap import Tap
from sansnet_trio.plan.host import read_host_for
from sansnet_trio.plan.options import NamespaceOptions
from sansnet_trio.plan.setup import Setup, make_plan

if TYPE_CHECKING:
    from sansnet_core.ports import ForwardRule
    from sansnet_trio.decisions import Decider
    from sansnet_trio.guest.plan import GuestPlan
    from sansnet_trio.links.observed import CaptureFile
    from sansnet_trio.network import GuestNetwork
    from sansnet_trio.recording.file import RecordingFile
    from sansnet_trio.services.services import Services

__all__ = ["attach"]

_LIKE_HOST: Final = NamespaceOptions()


@asynccontextmanager
async def attach(
    target: int | str | os.PathLike[str] | ExistingNamespace,
    options: NamespaceOptions = _LIKE_HOST,
    *,
    services: Services | None = None,
    decide: Decider | None = None,
    capture: CaptureFile | None = None,
    record: str | os.PathLike[str] | RecordingFile | None = None,
    forwards: Iterable[ForwardRule] = (),
) -> AsyncIterator[GuestNetwork]:
    """Give a network to an existing network namespace, such as a container's; an async context manager.

    The block begins when the namespace has its interface, which is removed at the end. Nothing else in the namespace is
    changed, and its files stay as they are. This needs the privileges of the namespace's owner.

    Args:
        target: the id of a process in it, its name in `ip netns`, the path of its file, or a namespace, which is closed
            at the end.
        options: the options of the guest's network; see `open_guest`.
        services: see `open_network`.
        decide: see `open_network`.
        capture: see `open_network`.
        record: see `open_network`.
        forwards: see `open_guest`.

    Raises:
        GuestError: there is no such namespace, it may not be entered, or the interface cannot be made.
        HostError: the options do not fit the host.
        OptionsError: the options do not fit each other.
        ForwardError: a port cannot be bound.
        LinkClosed: the namespace or its interface is gone; the block was cancelled. See `GuestNetwork.wait_closed`.
    """
    namespace = _find(target)
    try:
        guest = AttachedGuest.fork(namespace, partial(_prepare, options))
    except BaseException:
        namespace.close()
        raise
    with guest:
        try:
            ready = await guest.ready()
        except EOFError:
            raise GuestError.killed() from None
        setup = ready.prepared
        warn(*setup.warnings, *ready.warnings)
        link = Tap(ready.tap, ready.link)
        try:
            ports = await open_ports(forwards, setup, guest)
        except BaseException:
            link.close()
            raise
        try:
            async with network_of(
                link, setup, services=services, decide=decide, capture=capture, record=record, forwards=ports
            ) as network:
                network.set_guest(guest, setup.own)
                network.nursery.start_soon(_watch, namespace, network)
                yield network
        finally:
            if ports is not None:
                ports.close()


def _find(target: int | str | os.PathLike[str] | ExistingNamespace) -> ExistingNamespace:
    kinds = (int, str, os.PathLike, ExistingNamespace)
    expect("target", target, kinds, "the id of a process, or the name or path of a network namespace")
    if isinstance(target, ExistingNamespace):
        return target
    if isinstance(target, int):
        return ExistingNamespace.of_process(target)
    return ExistingNamespace.named(os.fspath(target))


async def _watch(namespace: ExistingNamespace, network: GuestNetwork) -> None:
    await namespace.wait_gone()
    network.end(LinkClosed(f"the namespace {namespace.network} is gone"))


def _prepare(options: NamespaceOptions) -> tuple[GuestPlan, Setup]:
    return make_plan(options, read_host_for(options))
