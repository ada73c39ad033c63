"""The request for a new socket agent: both parts, that of the broker and that of the serving process."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sansnet_trio.broker.requests import Answer, Handler, Request
from sansnet_trio.guest.socket_agent import TIMEOUT, SocketAgents, StartedAgent, start_agent
from sansnet_trio.linux.children import ProcessHandle

if TYPE_CHECKING:
    from sansnet_trio.broker.client import Broker

__all__ = ["agent_handlers", "start_by"]


def agent_handlers(agents: SocketAgents) -> Mapping[Request, Handler]:
    """The broker's part. There is one agent at a time: a new one ends the one before."""
    last: StartedAgent | None = None

    def start() -> Answer:
        nonlocal last
        if last is not None:
            last.process.end()
        last = start_agent(agents.join, agents.descriptors)
        return Answer(None, (last.channel.detach(), os.dup(last.process.descriptor)))

    return {Request.SOCKET_AGENT: start}


def start_by(broker: Broker, agents: SocketAgents) -> None:
    """Let a broker start the next agents."""

    def start() -> StartedAgent:
        channel, process = broker.ask(Request.SOCKET_AGENT, TIMEOUT).expect(2)
        return StartedAgent(ProcessHandle(process), socket.socket(fileno=channel))

    agents.start_agent = start
    agents.is_forked = lambda: True
