"""The broker of a command: what it does depends on the command's options."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from sansnet_cli.output import report
from sansnet_cli.output.files import NewFile, ReplacedFile
from sansnet_cli.runtime.following import Changeable, Follower
from sansnet_trio.broker.agents import start_by
from sansnet_trio.broker.client import Broker
from sansnet_trio.broker.files import BrokeredFailureFiles, failure_handlers, make_recordings_by, recording_handlers
from sansnet_trio.broker.process import Duties, WatchedHost
from sansnet_trio.broker.requests import Answer, Handler, Request
from sansnet_trio.guest.hosts_file import HOSTS
from sansnet_trio.guest.live_change import LiveGuest
from sansnet_trio.guest.socket_agent import SocketAgents
from sansnet_trio.hostinfo import RESOLV_CONF
from sansnet_trio.recording.failures import FailureReports

if TYPE_CHECKING:
    from sansnet_trio.guest.target import ExistingNamespace
    from sansnet_trio.recording.file import RecordingFile

__all__ = ["Brokered", "NamespaceGuest", "brokered"]

_PUT_TIMEOUT: Final = 5.0
"""Seconds that the learnt policy may take to be on the disk. No guest is served any more."""


class NamespaceGuest(Changeable, Protocol):
    """A guest in a namespace: `CommandGuest` or `AttachedGuest`."""

    @property
    def host_changes(self) -> socket.socket:
        """A netlink socket that has received the changes since the host was read."""

    def live(self) -> LiveGuest | None:
        """The guest, to be changed by the broker; None if it has a resident, which changes it."""

    @property
    def agents(self) -> SocketAgents | None:
        """The socket agents; None if it has none."""


class Brokered(NamedTuple):
    """The parts of a command that a broker works for.

    Attributes:
        follower: makes the guest's network follow the host's.
        guest: the guest in a namespace; None is a virtual machine.
        namespace: the namespace whose name is watched; None watches none.
        recording: the file of a recording; None if there is none.
        policy: the file for the learnt policy; None if there is none.
    """

    follower: Follower
    guest: NamespaceGuest | None
    namespace: ExistingNamespace | None
    recording: RecordingFile | None
    policy: ReplacedFile | None

    def duties(self) -> Duties:
        """The duties of the broker."""
        handlers = dict(failure_handlers())
        if self.recording is not None:
            handlers.update(recording_handlers(self.recording.path))
        if self.policy is not None:
            handlers.update(_policy_handlers(self.policy.path))
        guest, setup = self.guest, self.follower.setup
        live = None if guest is None else guest.live()
        files = (RESOLV_CONF, HOSTS) if live is not None and live.files else (RESOLV_CONF,)
        changes = None if guest is None else guest.host_changes
        return Duties(
            host=WatchedHost(self.follower.options, setup.host, files, changes),
            guest=None if live is None or setup.plan is None else (live, setup.plan),
            namespace=self.namespace,
            agents=None if guest is None else guest.agents,
            handlers=handlers,
        )

    def use(self, broker: Broker) -> None:
        """Let all parts ask the broker from now on."""
        guest = self.guest
        self.follower.set_guest(guest if guest is None or guest.live() is None else broker)
        if self.recording is not None:
            make_recordings_by(broker, self.recording)
        if self.policy is not None:
            self.policy.replacement = _BrokeredPolicy(broker)
        if guest is not None and guest.agents is not None:
            start_by(broker, guest.agents)


def _policy_handlers(path: str) -> Mapping[Request, Handler]:
    file = NewFile(path)

    def put() -> Answer:
        file.put()
        return Answer()

    return {Request.POLICY_FILE: lambda: Answer(None, (file.make(),)), Request.POLICY_DONE: put}


class _BrokeredPolicy:
    """`Replacement` by a broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def make(self) -> int:
        return self._broker.ask(Request.POLICY_FILE).expect(1)[0]

    def put(self) -> None:
        self._broker.ask(Request.POLICY_DONE, _PUT_TIMEOUT)

    def remove(self) -> None:
        pass  # the broker does that at its end


@contextmanager
def brokered(parts: Brokered) -> Iterator[Broker | None]:
    """A broker as long as the block runs; None, with a warning, if there cannot be one."""
    try:
        broker = Broker(parts.duties())
    except OSError as error:
        report.warn(f"the guest's network cannot follow the host's: {report.reason(error)}")
        yield None
        return
    with broker:
        parts.use(broker)
        files = FailureReports.files
        FailureReports.files = BrokeredFailureFiles(broker)
        try:
            yield broker
        finally:
            FailureReports.files = files
