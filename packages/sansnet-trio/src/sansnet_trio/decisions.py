"""Decisions about new flows: each question of the network becomes a task that runs the program's `decide`.

Theory of operation. The network bounds the number of its open questions (`Limits.undecided_flows`) and their time
(`Limits.decision_time`), and withdraws one when the guest has given up. Its task is cancelled then. The tasks run in a
nursery of the driver, so an exception ends the driver, and the end of the driver cancels them.

A question may also be answered from outside (`Decisions.settle`), whatever its task does: the first answer counts.
`hold_flow` is the decider for programs that answer in this way alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, TypeVar

import trio

from sansnet_core import (
    Action,
    Allow,
    DecideFlow,
    Drop,
    Endpoint,
    NetworkConfig,
    Refuse,
    SansnetError,
    SocketId,
    addresses,
    policy,
)
from sansnet_core.orders import value_class
from sansnet_core.records import replace
from sansnet_core.wire.ip import TCP, UDP
from sansnet_trio.groups import only, raise_alone

if TYPE_CHECKING:
    from sansnet_trio.services.datagrams import GuestDatagramChannel
    from sansnet_trio.services.program_sockets import ProgramSockets
    from sansnet_trio.services.streams import GuestStream

__all__ = [
    "Decider",
    "Decisions",
    "NewFlow",
    "NoSuchFlow",
    "PendingFlow",
    "Serve",
    "Verdict",
    "asking_by_default",
    "hold_flow",
]

T = TypeVar("T", bound=trio.abc.AsyncResource)

_NAMES: Final = {TCP: "tcp", UDP: "udp"}

_ids: Final = count(1)
"""Of all networks of this process, so that an answer never reaches the flow of another guest."""


@value_class
class NewFlow:
    """A flow that waits for a verdict."""

    protocol: str
    """`tcp`, `udp` or `ping`."""
    guest: Endpoint
    """The guest's endpoint. For a ping, the port of an endpoint is the identifier."""
    destination: Endpoint
    """The remote endpoint in the guest's packets; for an inbound flow, the outsider's endpoint as the host sees it."""
    inbound: bool = False
    """Whether an outsider opens it."""
    name: str | None = None
    """The host name by which the guest knows the destination; None if it is not known."""

    def __str__(self) -> str:
        guest, destination = (
            addresses.format(end.address) if self.protocol == "ping" else str(end)
            for end in (self.guest, self.destination)
        )
        if self.inbound:
            return f"{self.protocol} {destination} to {guest}, from outside"
        return f"{self.protocol} {guest} to {destination}{f' ({self.name})' if self.name else ''}"


@value_class
class PendingFlow:
    """A flow that waits for a verdict, as `GuestNetwork.pending` lists it."""

    id: int
    """For `GuestNetwork.answer`; never used for another flow of this process."""
    flow: NewFlow
    since: float
    """When it was asked about, in seconds of trio's clock."""
    until: float
    """When it is refused if there is no verdict."""


class NoSuchFlow(SansnetError):
    """No flow with this id waits for a verdict; it may have been decided, given up by the guest, or refused in time."""


@value_class
class Serve:
    """The program itself is the other end of the flow: no host socket is made."""

    handler: Callable[[GuestStream], Awaitable[object]] | Callable[[GuestDatagramChannel], Awaitable[object]]
    """Called in a task of its own: with a `GuestStream` for TCP, with a `GuestDatagramChannel` for UDP. The network
    answers a ping itself, and the handler is not called. An exception of the handler ends the driver."""


Verdict: TypeAlias = Allow | Refuse | Drop | Serve
"""The result of a `Decider`."""

Decider: TypeAlias = Callable[[NewFlow], Awaitable[Verdict]]
"""An async function that decides about a new flow. It is called once for each, in a task of its own."""


async def hold_flow(flow: NewFlow) -> Verdict:
    """A `Decider` that leaves every flow to `GuestNetwork.answer`; without an answer in time, the flow is refused."""
    await trio.sleep_forever()
    raise AssertionError(f"{flow} was not held")


def asking_by_default(config: NetworkConfig) -> NetworkConfig:
    """The configuration of a network with a decider: unless it has a default action, that is to ask."""
    return replace(config, default_action=Action.ASK) if config.default_action is None else config


class _Question(NamedTuple):
    """A question whose task runs."""

    id: int
    order: DecideFlow
    flow: NewFlow
    since: float
    scope: trio.CancelScope


class Decisions:
    """The questions of one network.

    Args:
        decide: called for each question.
        answer: called with the name of the flow and the verdict for the network.
        program: returns what serves the flows whose verdict is `Serve`.
    """

    def __init__(
        self,
        decide: Decider,
        answer: Callable[[SocketId, policy.Verdict], None],
        program: Callable[[], ProgramSockets],
    ) -> None:
        if not callable(decide):
            raise TypeError(f"decide: {decide!r} is not an async function")
        self._decide = decide
        self._answer = answer
        self._program = program
        self._nursery: trio.Nursery | None = None
        self._questions: dict[SocketId, _Question] = {}
        """The earliest first."""

    async def run(self, serve: Callable[[], Awaitable[None]]) -> None:
        """Run the driver's loop, and the tasks beside it until it ends.

        Raises:
            Exception: the exception of `serve` or of a task; a group only if several failed.
        """
        try:
            async with trio.open_nursery() as self._nursery:
                await serve()
        except BaseExceptionGroup as group:
            raise_alone(only(group))
        finally:
            self._questions.clear()

    def ask(self, order: DecideFlow) -> None:
        """Start the task of a question."""
        assert self._nursery is not None, "orders are carried out while the driver runs"
        protocol = _NAMES.get(order.protocol, "ping")
        flow = NewFlow(protocol, order.guest, order.destination, order.inbound, order.name)
        question = _Question(next(_ids), order, flow, trio.current_time(), trio.CancelScope())
        self._questions[order.socket] = question
        self._nursery.start_soon(self._ask, question)

    def withdraw(self, socket: SocketId) -> None:
        """Cancel the task of a question, if there is one with this name."""
        if question := self._questions.pop(socket, None):
            question.scope.cancel()

    def pending(self, time: float) -> list[PendingFlow]:
        """The flows that wait, the earliest first; `time` is the seconds after which they are refused."""
        return [PendingFlow(one.id, one.flow, one.since, one.since + time) for one in self._questions.values()]

    def check(self, id: int, verdict: object) -> None:
        """Check that an answer is possible; raises as `settle` does."""
        _check(verdict, self._find(id).flow, "the verdict is")

    def settle(self, id: int, verdict: Verdict) -> None:
        """Answer a question, and cancel its task.

        Args:
            id: number of the flow.
            verdict: one that a `Decider` may have returned.

        Raises:
            NoSuchFlow: no such flow waits.
            TypeError: it is no verdict.
            ValueError: it is one that this flow cannot have.
        """
        question = self._find(id)
        _check(verdict, question.flow, "the verdict is")
        self.withdraw(question.order.socket)
        self._tell(question.order, verdict)

    def _find(self, id: int) -> _Question:
        for question in self._questions.values():
            if question.id == id:
                return question
        raise NoSuchFlow(
            f"no flow {id} waits for a verdict; it was decided, the guest gave it up, or its time was over"
        )

    async def _ask(self, question: _Question) -> None:
        with question.scope:
            answer = self._decide(question.flow)
            if not isinstance(answer, Awaitable):
                raise TypeError(f"decide returned {answer!r}; it must be an async function, with the verdict as result")
            verdict = _check(await answer, question.flow)
        if self._questions.pop(question.order.socket, None) is not None:  # else it was withdrawn or answered
            self._tell(question.order, verdict)

    def _tell(self, order: DecideFlow, verdict: Verdict) -> None:
        if isinstance(verdict, Serve):
            self._serve(order, verdict.handler)
        else:
            self._answer(order.socket, verdict)

    def _serve(self, order: DecideFlow, handler: Callable[[Any], Awaitable[object]]) -> None:
        if order.protocol == TCP:
            with self._program().stream_expected(order.socket, partial(self._handle, handler)):
                self._answer(order.socket, policy.Serve())
        elif order.protocol == UDP:
            channel = self._program().open_flow(order.socket, order.guest, order.destination)
            self._answer(order.socket, policy.Serve())
            self._handle(handler, channel)
        else:
            self._answer(order.socket, policy.Serve())

    def _handle(self, handler: Callable[[T], Awaitable[object]], served: T) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(_run_handler, handler, served)


async def _run_handler(handler: Callable[[T], Awaitable[object]], served: T) -> None:
    """Run a handler, and close its stream or channel at the end, as `trio.serve_listeners` does."""
    try:
        await handler(served)
    finally:
        await trio.aclose_forcefully(served)


def _check(verdict: object, flow: NewFlow, start: str = "decide returned") -> Verdict:
    """The verdict, if this flow can have it; `start` begins the message otherwise."""
    if isinstance(verdict, policy.Serve):
        raise TypeError(f"{start} Serve of sansnet_core, which has no handler; give sansnet_trio.Serve(handler)")
    if not isinstance(verdict, Verdict):
        raise TypeError(f"{start} {verdict!r} for {flow}; give Allow(), Refuse(), Drop() or Serve(handler)")
    if isinstance(verdict, Serve) and flow.inbound:
        raise ValueError(f"{start} Serve for {flow}, which only the guest can answer; give Allow(), Refuse() or Drop()")
    if isinstance(verdict, Allow) and verdict.to is not None and not verdict.to.port and flow.protocol != "ping":
        raise ValueError(f"{start} {verdict} for {flow}, but port 0 has no server; give the server's port")
    return verdict
