"""Fixtures of pytest. pytest loads this module in every run, so it imports nothing else until a fixture is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from typing import Unpack

    from sansnet_trio import Guest
    from sansnet_trio.testing import SimulatedGuest, SimulatedOptions

__all__ = ["RunWithGuest", "real_guest", "simulated_guest"]

T = TypeVar("T")


class RunWithGuest(Protocol):
    """The value of the fixture `simulated_guest`."""

    def __call__(
        self,
        test: Callable[[SimulatedGuest], Awaitable[T]],
        *,
        limit: float = 600.0,
        **options: Unpack[SimulatedOptions],
    ) -> T:
        """Run an async function with a simulated guest, in virtual time.

        Args:
            test: called with the guest.
            limit: virtual seconds after which the test fails.
            options: the arguments of `open_simulated_guest`.

        Returns:
            The result of the function.

        Raises:
            trio.TooSlowError: the time is over, or nothing would ever happen any more.
        """


@pytest.fixture(scope="session")
def simulated_guest() -> RunWithGuest:
    """A function that runs an async function with a simulated guest, in virtual time: `RunWithGuest`."""
    import trio
    import trio.testing

    from sansnet_trio.testing import open_simulated_guest

    def run(
        test: Callable[[SimulatedGuest], Awaitable[T]], *, limit: float = 600.0, **options: Unpack[SimulatedOptions]
    ) -> T:
        async def main() -> T:
            with trio.fail_after(limit):
                async with open_simulated_guest(**options) as guest:
                    result = await test(guest)
            return result

        return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

    return run


@pytest.fixture(scope="session")
def real_guest() -> Callable[..., AbstractAsyncContextManager[Guest]]:
    """`sansnet_trio.open_guest`: a command with a network of its own. Skips where the machine cannot make one."""
    from sansnet_trio.testing import guest_obstacle

    if (reason := guest_obstacle()) is not None:
        pytest.skip(f"this machine cannot make guests: {reason}")
    from sansnet_trio import open_guest

    return open_guest
