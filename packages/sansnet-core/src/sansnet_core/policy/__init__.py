"""Decides about flows and names: rules as data, the verdicts of a program that is asked, and the rules' evaluation."""

from sansnet_core.policy.rule import Action, Allow, Check, Drop, Group, Refuse, Rule, Serve, Verdict

__all__ = ["Action", "Allow", "Check", "Drop", "Group", "Refuse", "Rule", "Serve", "Verdict"]
