"""Decides about flows and names: rules as data, and their evaluation; a text form, files and presets of them.

`Rule` is one rule, `parse_rule` makes one from text, `load_policy` reads a file, and `PRESETS` are policies that are
known by a word. `Evaluator` judges flows and questions, and `explain` says why. `Allow`, `Refuse`, `Drop` and `Serve`
are the verdicts of a program that is asked.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from sansnet_core.policy.policy import NameMode, Policy, PolicyError, ProxyConfig, ProxyKind
from sansnet_core.policy.rule import Action, Allow, Check, Drop, Group, Refuse, Rule, Serve, Verdict

if TYPE_CHECKING:
    from sansnet_core.policy.cases import Case, PolicyFile
    from sansnet_core.policy.document import load_policy, parse_credentials
    from sansnet_core.policy.embedded import carried
    from sansnet_core.policy.evaluator import Evaluator, Judgement
    from sansnet_core.policy.explanation import CaseResult, Explanation, explain, explain_question, run_cases
    from sansnet_core.policy.names import canonical
    from sansnet_core.policy.presets import PRESETS, preset
    from sansnet_core.policy.text import parse_destination, parse_rule, parse_rules
    from sansnet_core.policy.writing import dump_policy

__all__ = [
    "PRESETS",
    "Action",
    "Allow",
    "Case",
    "CaseResult",
    "Check",
    "Drop",
    "Evaluator",
    "Explanation",
    "Group",
    "Judgement",
    "NameMode",
    "Policy",
    "PolicyError",
    "PolicyFile",
    "ProxyConfig",
    "ProxyKind",
    "Refuse",
    "Rule",
    "Serve",
    "Verdict",
    "canonical",
    "carried",
    "dump_policy",
    "explain",
    "explain_question",
    "load_policy",
    "parse_credentials",
    "parse_destination",
    "parse_rule",
    "parse_rules",
    "preset",
    "run_cases",
]

_HOMES = {
    "cases": ("Case", "PolicyFile"),
    "document": ("load_policy", "parse_credentials"),
    "embedded": ("carried",),
    "evaluator": ("Evaluator", "Judgement"),
    "explanation": ("CaseResult", "Explanation", "explain", "explain_question", "run_cases"),
    "names": ("canonical",),
    "presets": ("PRESETS", "preset"),
    "text": ("parse_destination", "parse_rule", "parse_rules"),
    "writing": ("dump_policy",),
}
"""Module -> the names here that it defines, and that are loaded when they are first used."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Load a name when it is first used (PEP 562): a network without rules needs few of them."""
        for home, names in _HOMES.items():
            if name in names:
                value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
