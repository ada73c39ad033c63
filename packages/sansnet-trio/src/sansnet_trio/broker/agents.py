"""The request for a new socket agent: both parts, that of the broker and that of the serving process."""

from __future__ import annotations

import math
import os
import socket

from sansnet_trio.broker.requests import Answer, Asked, Request
from sansnet_trio.guest.socket_agent import TIMEOUT, SocketAgents, StartedAgent, start_agent
from sansnet_trio.linux.children import ProcessHandle

__all__ = ["AgentJob", "start_by"]


class AgentJob:
    """The broker's part: starts agents on request, and reaps them. See `Job`.

    There is one agent at a time: a new one ends the one before.
    """

    def __init__(self, agents: SocketAgents) -> None:
        self._agents = agents
        self._process: ProcessHandle | None = None

    def start(self) -> Answer:
        """The handler of the request."""
        self.close()
        self._process, channel = start_agent(self._agents.join, self._agents.descriptors)
        with channel:  # closed if no descriptor is left
            process = os.dup(self._process.descriptor)
            return Answer(None, (channel.detach(), process))

    def descriptor(self) -> int | None:
        """See `Job`."""
        return None if self._process is None else self._process.descriptor

    def due(self) -> float:
        """See `Job`."""
        return math.inf

    def run(self) -> None:
        """See `Job`."""
        if self._process is not None and not self._process.is_running():
            self.close()

    def close(self) -> None:
        """End the agent."""
        if self._process is not None:
            self._process.end()
            self._process = None


def start_by(broker: Asked, agents: SocketAgents) -> None:
    """Let a broker start the next agents."""

    def start() -> StartedAgent:
        channel, process = broker.ask(Request.SOCKET_AGENT, TIMEOUT).expect(2)
        return StartedAgent(ProcessHandle(process), socket.socket(fileno=channel))

    agents.start_agent = start
    agents.is_forked = lambda: True
