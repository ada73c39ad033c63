"""Importing all modules that a command may need, before it is confined and cannot read them any more.

Many modules are imported where they are first used, because few guests need them. This module names those that may be
used while a guest is served. Each group belongs to options of the command.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Final, TypeAlias

from sansnet_cli.options.policy import asks
from sansnet_cli.process import terminal
from sansnet_cli.process.loop import load_trio

if TYPE_CHECKING:
    from sansnet_cli.options.records import GuestOptions

__all__ = ["is_plain", "load"]

_Wants: TypeAlias = "Callable[[GuestOptions], bool]"


def _asks(options: GuestOptions) -> bool:
    return options.policy is not None and asks(options.policy)


def _controlled(options: GuestOptions) -> bool:
    return options.control is not None or _asks(options)


def _policed(options: GuestOptions) -> bool:
    """Whether there are rules, or could be some later."""
    decides = options.policy is not None or options.default_action is not None or bool(options.all_rules)
    return decides or bool(options.resolver) or _controlled(options)


def _audited(options: GuestOptions) -> bool:
    return options.audit is not None or options.learn is not None or _policed(options)


def _impaired(options: GuestOptions) -> bool:
    return options.impair_up is not None or options.impair_down is not None or _controlled(options)


_GROUPS: Final[tuple[tuple[_Wants, tuple[str, ...]], ...]] = (
    (
        lambda options: True,
        (
            "linecache",  # with `traceback`: what the interpreter prints about a mistake of ours
            "sansnet_cli.runtime.session",
            "sansnet_core.recording.failure",
            "sansnet_core.recording.format",
            "sansnet_core.recording.texts",
            "traceback",
        ),
    ),
    (
        _policed,
        (
            "sansnet_core.inspect.http",
            "sansnet_core.inspect.tls",
            "sansnet_core.policy.evaluator",
            "sansnet_core.proto.tcp.gate",
            "sansnet_core.proto.udp.associate",
            "sansnet_core.proxy.http_connect",
            "sansnet_core.proxy.socks5",
            "sansnet_core.resolver.resolver",
            "sansnet_trio.forward.port_forwards",
            "sansnet_trio.policies",
        ),
    ),
    (
        _audited,
        ("sansnet_trio.audit.following", "sansnet_trio.audit.log", "sansnet_trio.audit.summary"),
    ),
    (lambda options: options.learn is not None, ("sansnet_core.policy.writing", "sansnet_trio.audit.learner")),
    (lambda options: options.trace, ("sansnet_cli.runtime.trace",)),
    (lambda options: options.record is not None, ("sansnet_trio.recording.recorder",)),
    (
        _impaired,
        ("sansnet_cli.output.impairments", "sansnet_cli.runtime.impairment", "sansnet_trio.cables"),
    ),
    (
        _controlled,
        (
            "encodings.idna",  # with `punycode`: names in a policy
            "encodings.punycode",
            "sansnet_cli.runtime.policy",
            "sansnet_core.policy.document",
            "sansnet_core.policy.embedded",
            "sansnet_core.policy.explanation",
            "sansnet_core.policy.presets",
            "sansnet_core.policy.text",
            "sansnet_core.policy.writing",
            "sansnet_trio.control.server",
            "sansnet_trio.decisions",
            "tomllib",
        ),
    ),
    (_asks, ("sansnet_cli.runtime.ask",)),
    (lambda options: options.notices, ("sansnet_cli.runtime.hints",)),
)
"""Whether a command's options want a group of modules, and the modules."""


def load(options: GuestOptions, *also: str) -> None:
    """Import the modules that a command may need while it serves guests, read the time zone, and open the terminal.

    Args:
        options: the command's options.
        also: further modules.
    """
    load_trio()
    for name in (*also, *_wanted(options)):
        import_module(name)
    time.tzset()
    terminal.find()


def is_plain(options: GuestOptions) -> bool:
    """Whether a guest's network only carries its frames: no option asks for files, rules, ports or reports."""
    wants = (_policed, _audited, _impaired, _controlled)
    others = (options.pcap, options.record, options.stats)
    shown = options.verbose or options.trace or bool(options.ports.forwards)
    return not (shown or any(want(options) for want in wants) or any(other is not None for other in others))


def _wanted(options: GuestOptions) -> Iterator[str]:
    for wants, names in _GROUPS:
        if wants(options):
            yield from names
