"""The tasks that run while a command serves guests."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import pytest
import trio

from sansnet_cli.runtime.control import Control
from sansnet_cli.runtime.session import Session
from sansnet_cli.serve.parser import parse
from sansnet_trio.hostinfo import HostInfo
from sansnet_trio.plan.setup import make_setup


class FailingControl(Control):
    async def run(self) -> None:
        raise ValueError("the control socket failed")


def session(control: Control) -> Session:
    options = parse(["--socket", "/nonexistent"])
    return Session(options, make_setup(options, HostInfo()), control, None)


def run(control: Control, work: Callable[[trio.Nursery], Awaitable[None]]) -> None:
    async def main() -> None:
        async with session(control).running() as nursery:
            await work(nursery)

    trio.run(main)


async def wait(_: trio.Nursery) -> None:
    await trio.sleep(math.inf)


async def fail(_: trio.Nursery) -> None:
    raise KeyError("the block failed")


async def fail_in_a_nursery(_: trio.Nursery) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail, nursery)


async def fail_twice(_: trio.Nursery) -> None:
    await trio.lowlevel.cancel_shielded_checkpoint()  # the other task fails meanwhile
    raise KeyError("the block failed")


async def start_and_return(nursery: trio.Nursery) -> None:
    nursery.start_soon(trio.sleep, math.inf)


@pytest.mark.parametrize("work", [fail, fail_in_a_nursery])
def test_an_exception_of_the_block_is_in_no_group(work: Callable[[trio.Nursery], Awaitable[None]]) -> None:
    with pytest.raises(KeyError, match="the block failed"):
        run(Control(), work)


def test_an_exception_of_another_task_is_in_no_group() -> None:
    with pytest.raises(ValueError, match="the control socket failed"):
        run(FailingControl(), wait)


def test_several_exceptions_stay_a_group() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        run(FailingControl(), fail_twice)
    assert caught.group_contains(KeyError)
    assert caught.group_contains(ValueError)


def test_all_tasks_end_with_the_block() -> None:
    run(Control(), start_and_return)
