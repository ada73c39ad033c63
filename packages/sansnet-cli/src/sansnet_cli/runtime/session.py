"""The network of guests while a command serves them, the same for every kind of guest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

from sansnet_cli.options.records import GuestOptions
from sansnet_cli.output import report
from sansnet_cli.process.loading import load
from sansnet_cli.runtime.audit import INTERVAL, Audit
from sansnet_cli.runtime.brokered import Brokered, brokered
from sansnet_cli.runtime.confinement import confine_main
from sansnet_cli.runtime.control import Control, asks_of
from sansnet_cli.runtime.following import Follower
from sansnet_trio.decisions import hold_flow
from sansnet_trio.front.setup import network_of
from sansnet_trio.groups import only, raise_alone
from sansnet_trio.links import Link
from sansnet_trio.network import GuestNetwork
from sansnet_trio.plan.setup import Setup

if TYPE_CHECKING:
    from sansnet_cli.runtime.audit import GuestAudit
    from sansnet_cli.runtime.brokered import NamespaceGuest
    from sansnet_cli.runtime.hints import Hints
    from sansnet_cli.runtime.impairment import LiveImpairments
    from sansnet_cli.runtime.policy import LivePolicy
    from sansnet_core import Notice
    from sansnet_trio.broker.client import Broker
    from sansnet_trio.forward.forwards import Forwards
    from sansnet_trio.guest.target import ExistingNamespace
    from sansnet_trio.recording.file import RecordingFile

__all__ = ["Session"]


class Session:
    """The network of one guest, or of several one after the other.

    Args:
        options: the command's options.
        setup: the setup of the guest's network.
        control: the control socket.
        forwards: the forwarded ports; None if there are none and never will be.
        guest: the guest in a namespace, whose interface is kept like the host's; None is a virtual machine.
        namespace: the namespace that `wait_gone` watches.
        audit: the accounts that the options ask for; None if they ask for none.
        recording: the file of a recording; None if there is none.
        prompts: whether nothing else reads sansnet's terminal, so that it may ask there about flows.
    """

    def __init__(
        self,
        options: GuestOptions,
        setup: Setup,
        control: Control,
        forwards: Forwards | None,
        guest: NamespaceGuest | None = None,
        *,
        namespace: ExistingNamespace | None = None,
        audit: Audit | None = None,
        recording: RecordingFile | None = None,
        prompts: bool = False,
    ) -> None:
        load(options)
        self.options = options
        self._control = control
        self._forwards = forwards
        self._audit = audit or Audit()
        self._recording = recording
        self._guest_audit: GuestAudit | None = None
        self._in_namespace = guest is not None
        self._guest = guest
        self._namespace = namespace
        self._follower = Follower(options, setup, forwards)
        self._broker: Broker | None = None
        self._served: GuestNetwork | None = None
        self._policy: LivePolicy | None = None
        self._impairments: LiveImpairments | None = None
        self._asks = asks_of(options)
        self._prompts = prompts
        self._begun = trio.Event()
        """Set when this process is confined, and its broker and tasks have been started."""
        self._begin: Callable[[], None] = _do_nothing
        if control.is_on:
            from sansnet_cli.runtime.impairment import LiveImpairments
            from sansnet_cli.runtime.policy import LivePolicy

            self._policy = LivePolicy(lambda: self.setup)
            control.set_policed(self._policy)
            self._impairments = LiveImpairments(setup)
            control.set_impaired(self._impairments)
        control.set_forwards(forwards, namespace=self._in_namespace)

    @property
    def setup(self) -> Setup:
        """The current setup of the guest's network."""
        return self._follower.setup

    @asynccontextmanager
    async def running(self) -> AsyncIterator[trio.Nursery]:
        """Answer the control socket, follow the host and print the counters as long as the block runs.

        Before that, the broker is started and the process is confined: at once if the guests are machines, otherwise
        when the network of the guest is ready. No frame has been read yet.

        Yields a nursery for other tasks of the command. They are cancelled at the end of the block. A single
        exception leaves the block itself, and not a group of it.
        """
        error: BaseException | None = None
        with ExitStack() as stack:
            try:
                async with trio.open_nursery() as nursery:
                    self._begin = partial(self._confine_and_begin, stack, nursery)
                    if self._guest is None:
                        self._begin()
                    yield nursery
                    nursery.cancel_scope.cancel()
            except BaseExceptionGroup as group:
                error = only(group)
            if error is not None:
                raise_alone(error)

    def _confine_and_begin(self, stack: ExitStack, nursery: trio.Nursery) -> None:
        """Start the broker, confine this process, and start the tasks.

        The broker is a copy of this process, so it is made as late as possible: each page of memory that one of them
        changes is no longer shared.
        """
        self._begin = _do_nothing
        if self._in_namespace and (self.options.impair_up or self.options.impair_down) is not None:
            from sansnet_cli.runtime.impairment import unimpaired

            if (sentence := unimpaired(self.options.ports)) is not None:
                report.warn(sentence)
        parts = Brokered(self._follower, self._guest, self._namespace, self._recording, self._audit.learnt)
        self._broker = stack.enter_context(brokered(parts))
        prompts = self._asks and self._prompts
        self._control.set_sandbox(confine_main(self.options, controlled=self._control.is_on, prompts=prompts))
        nursery.start_soon(self._control.run)
        nursery.start_soon(self._follower.run)
        if self._broker is not None:
            nursery.start_soon(self._broker.run, self._follower.follow)
        nursery.start_soon(self._report_regularly)
        nursery.start_soon(self._flush_audit)
        if self._asks:
            nursery.start_soon(self._ask)
        self._begun.set()

    async def wait_gone(self) -> None:
        """Wait until the name of the namespace no longer leads to it."""
        await self._begun.wait()
        if self._namespace is not None and self._namespace.process is not None:
            await self._namespace.wait_gone()
        elif self._broker is not None:
            await self._broker.wait_gone()
        else:
            await trio.sleep_forever()

    @asynccontextmanager
    async def serving(self, link: Link) -> AsyncIterator[GuestNetwork]:
        """Serve the network of one guest for as long as the block runs; see `open_network`.

        Args:
            link: the guest's link; closed at the end.

        Raises:
            LinkClosed: the guest's end of the link is gone; the block was cancelled.
            NetworkFailed: a mistake in sansnet ended the network.
        OSError: the link failed, the host's interface is gone, or no descriptor is left.
        """
        setup, decide = self.setup, None
        if self._policy is not None:
            # Flows that rules leave undecided wait for clients
            setup, decide = self._policy.applied(setup), hold_flow
        if self._impairments is not None:
            setup = self._impairments.applied(setup)
        hints = self._make_hints(setup)
        audit = self._audit.begin(setup.config, live=self._control.is_on)
        takers = [each.add for each in (hints, audit) if each is not None]

        def take(notices: Sequence[Notice]) -> None:
            for taker in takers:
                taker(notices)

        opened = network_of(
            link,
            setup,
            decide=decide,
            record=self._recording,
            forwards=self._forwards,
            on_notices=take if takers else None,
            on_ready=lambda: self._begin(),
        )
        async with opened as network:
            self._serve(network, audit)
            if self.options.verbose and (cables := network.driver.cables) is not None:
                report.impairments(*network.impairments, cables.seed)
            try:
                with (
                    self._control.serving(network.core, network.driver, hints),
                    self._follower.serving(network),
                ):
                    yield network
            finally:
                self._serve(None, None)
                if hints:
                    hints.end(network.flows())
                if audit:
                    audit.end(network)
                if self.options.verbose:
                    report.statistics(network.statistics(), network.driver_statistics())

    def _serve(self, network: GuestNetwork | None, audit: GuestAudit | None) -> None:
        self._served, self._guest_audit = network, audit
        self._control.set_audit(None if network is None or audit is None else lambda: audit.answer(network.flows()))
        if self._policy is not None:
            self._policy.serve(network)
        if self._impairments is not None:
            self._impairments.serve(network)

    async def _ask(self) -> None:
        """Tell the user how to decide about flows, and ask on the terminal if nothing else reads it."""
        from sansnet_cli.runtime.ask import ask_on_terminal, sentence

        report.inform(sentence(self._control.path, self.options.limits.decision_time))
        if self._prompts and self._control.commands is not None:
            await ask_on_terminal(self._control.commands)

    def _make_hints(self, setup: Setup) -> Hints | None:
        """The hints about a new guest; None if the command does not show any."""
        if not setup.config.notices:
            return None
        from sansnet_cli.runtime.hints import Hints

        forwards = self._forwards
        return Hints(
            self.options,
            setup,
            namespace=self._in_namespace,
            forwards=lambda: forwards.rules if forwards else (),
        )

    async def _report_regularly(self) -> None:
        """Print the counters of the guest that is served, as often as the options ask for."""
        while self.options.stats is not None:
            await trio.sleep(self.options.stats)
            if self._served is not None:
                report.statistics(self._served.statistics(), self._served.driver_statistics())

    async def _flush_audit(self) -> None:
        """Keep the accounts of the guest that is served up to date."""
        while True:
            await trio.sleep(INTERVAL)
            if self._served is not None and self._guest_audit is not None:
                self._guest_audit.flush(self._served.statistics())


def _do_nothing() -> None:
    pass
