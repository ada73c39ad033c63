"""The policy of a command's guests: one, or several one after the other. Changes stay for later ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sansnet_core.records import replace
from sansnet_trio.decisions import NoSuchFlow
from sansnet_trio.policies import completed, policy_of, with_policy

if TYPE_CHECKING:
    from sansnet_core.policy import Policy, Rule
    from sansnet_trio.decisions import PendingFlow, Verdict
    from sansnet_trio.network import GuestNetwork
    from sansnet_trio.plan.setup import Setup

__all__ = ["LivePolicy"]


class LivePolicy:
    """A policy that clients of the control socket change while guests are served.

    Args:
        setup: returns the present setup of the guest's network.
    """

    def __init__(self, setup: Callable[[], Setup]) -> None:
        self._setup = setup
        self._policy = policy_of(setup().config)
        self._served: GuestNetwork | None = None

    @property
    def policy(self) -> Policy:
        """The present policy."""
        return self._policy

    def set_policy(self, policy: Policy, *, keep_flows: bool = False) -> None:
        """Replace it; see `GuestNetwork.set_policy`.

        Raises:
            ConfigError: it does not fit the network. Nothing has changed.
        """
        policy = completed(policy, self._policy)
        if self._served is None:
            setup = self._setup()
            with_policy(setup.config, policy, planned=setup.resolver)
            self._policy = policy
        else:
            self._served.set_policy(policy, keep_flows=keep_flows)
            self._policy = self._served.policy

    def pending(self) -> list[PendingFlow]:
        """The flows of the guest that is served that wait for a verdict."""
        return [] if self._served is None else self._served.pending()

    def answer(self, id: int, verdict: Verdict, rule: Rule | None = None) -> None:
        """Decide about such a flow; see `GuestNetwork.answer`.

        Raises:
            NoSuchFlow: no such flow waits.
            ConfigError: the rule does not fit the network. Nothing has changed.
        """
        if self._served is None:
            raise NoSuchFlow("no guest is served, so no flow waits for a decision")
        self._served.answer(id, verdict, rule)
        self._policy = self._served.policy

    def applied(self, setup: Setup) -> Setup:
        """The setup of a new guest, with the present policy."""
        return replace(setup, config=with_policy(setup.config, self._policy, planned=setup.resolver))

    def serve(self, network: GuestNetwork | None) -> None:
        """Set the network that is served; None at its end."""
        self._served = network
        if network is not None:
            network.set_policy(self._policy)  # so that it stays when the network follows the host's
