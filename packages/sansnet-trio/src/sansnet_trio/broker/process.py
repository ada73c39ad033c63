"""The broker's process: forked from the serving process, and isolated."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple

from sansnet_trio.broker.agents import AgentJob
from sansnet_trio.broker.changes import ChangeJob
from sansnet_trio.broker.hosts import HostJob
from sansnet_trio.broker.jobs import Job, run_jobs
from sansnet_trio.broker.namespaces import NamespaceJob
from sansnet_trio.broker.news import NewsSource
from sansnet_trio.broker.requests import Handler, Request, RequestJob
from sansnet_trio.guest import helper_process
from sansnet_trio.guest.live_change import LiveGuest
from sansnet_trio.guest.plan import GuestPlan
from sansnet_trio.guest.socket_agent import SocketAgents
from sansnet_trio.guest.target import ExistingNamespace
from sansnet_trio.hostinfo import HostInfo
from sansnet_trio.linux import own_names, privileges, syscalls
from sansnet_trio.linux.descriptors import close_others
from sansnet_trio.plan.options import NetworkOptions
from sansnet_trio.sandbox import chosen, confine
from sansnet_trio.sandbox.profiles import BROKER

__all__ = ["Channels", "Duties", "WatchedHost", "fork"]

_STREAMS: Final = (0, 1, 2)
_NAME: Final = "sansnet-broker"


class WatchedHost(NamedTuple):
    """The host's network to watch; see `HostJob`."""

    options: NetworkOptions
    host: HostInfo
    files: Collection[str]
    changes: socket.socket | None = None


class Duties(NamedTuple):
    """The duties of a broker.

    Attributes:
        host: the host's network, if a guest's follows it.
        guest: the guest that it changes, and its plan.
        namespace: the namespace whose name it watches.
        agents: the socket agents of the guest; it starts the next ones.
        handlers: the requests for files that it answers.
    """

    host: WatchedHost | None = None
    guest: tuple[LiveGuest, GuestPlan] | None = None
    namespace: ExistingNamespace | None = None
    agents: SocketAgents | None = None
    handlers: Mapping[Request, Handler] = {}


class Channels(NamedTuple):
    """One end of each channel."""

    requests: socket.socket
    news: socket.socket
    changes: socket.socket

    def close(self) -> None:
        """Close them."""
        for channel in self:
            channel.close()


def fork(duties: Duties) -> tuple[int, Channels]:
    """Start a broker. It removes the names that this process has made (`own_names`) when this process has ended.

    Returns:
        Its process id, and our ends of the channels.

    Raises:
        OSError: no process can be started, or no descriptor is left.
    """
    with contextlib.ExitStack() as stack:
        pairs = []
        for kind in (socket.SOCK_SEQPACKET, socket.SOCK_SEQPACKET, socket.SOCK_STREAM):
            pair = socket.socketpair(socket.AF_UNIX, kind)
            for end in pair:
                stack.callback(end.close)
            pairs.append(pair)
        ours, theirs = (Channels(*ends) for ends in zip(*pairs, strict=True))
        # Until the child blocks them itself, a handler of ours would act on its signals
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                _become(duties, ours, theirs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        stack.pop_all()
    own_names.take()
    theirs.close()
    return pid, ours


def _become(duties: Duties, ours: Channels, theirs: Channels) -> None:
    """The broker, from its beginning to its end."""
    try:
        ours.close()
        gc.disable()  # finalizers of the parent's garbage could close descriptors that this process opens
        names = own_names.take()
        syscalls.set_name(_NAME)
        helper_process.detach()
        privileges.renounce()
        _close_others(_needed(duties, theirs))
        confine(BROKER, chosen())
        agents = None if duties.agents is None else AgentJob(duties.agents)
        try:
            run_jobs(_jobs(duties, theirs, agents))
        finally:
            if agents is not None:
                agents.close()
            for name in reversed((*names, *own_names.take())):
                name.remove_now()
    finally:
        os._exit(0)


def _jobs(duties: Duties, channels: Channels, agents: AgentJob | None) -> Iterable[Job]:
    news = NewsSource(channels.news)
    handlers = dict(duties.handlers)
    if agents is not None:
        handlers[Request.SOCKET_AGENT] = agents.start
        yield agents
    yield RequestJob(channels.requests, handlers)
    if duties.host is not None:
        yield HostJob(*duties.host, news)
    if duties.guest is not None:
        yield ChangeJob(*duties.guest, channels.changes)
    if duties.namespace is not None:
        yield NamespaceJob(duties.namespace, news)


def _needed(duties: Duties, channels: Channels) -> set[int]:
    needed = {channel.fileno() for channel in channels}
    if duties.agents is not None:
        needed.update(duties.agents.descriptors)
    if duties.host is not None and duties.host.changes is not None:
        needed.add(duties.host.changes.fileno())
    if duties.guest is not None:
        guest, _ = duties.guest
        needed.update((*guest.descriptors, *guest.files.values()))
    if duties.namespace is not None:
        needed.update(duties.namespace.files.descriptors)
    return needed


def _close_others(kept: set[int]) -> None:
    """Close all other descriptors. In place of streams there is one that can be neither read nor written."""
    null = os.open("/", os.O_PATH | os.O_CLOEXEC)
    for stream in _STREAMS:
        if stream not in kept:
            os.dup2(null, stream)
    close_others({*_STREAMS, *kept})
