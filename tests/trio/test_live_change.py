"""Changing a running guest."""

from __future__ import annotations

import errno
import os
import signal
import time

import pytest
import trio

from sansnet_trio.guest import live_change
from sansnet_trio.guest.live_change import GuestChange, LiveGuest, change_guest
from sansnet_trio.guest.plan import GuestPlan

PLAN = GuestPlan(interface="eth7", mtu=1400, addresses=())


def test_waiting_for_a_child_that_may_not_be_killed_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    kill = os.kill
    children: list[int] = []

    def refuse(pid: int, number: int) -> None:
        children.append(pid)
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(live_change, "TIMEOUT", 0.1)
    monkeypatch.setattr(os, "kill", refuse)
    began = time.monotonic()
    with pytest.raises(OSError, match=os.strerror(errno.ETIMEDOUT)):
        trio.run(change_guest, LiveGuest(lambda: time.sleep(60)), GuestChange(old=PLAN, new=PLAN))
    assert time.monotonic() - began < 30
    [child] = set(children)
    kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
