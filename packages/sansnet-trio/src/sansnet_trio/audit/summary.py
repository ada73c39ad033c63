"""The names and addresses that a guest reached, and those that the rules refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sansnet_core import FlowClosed, FlowOpened, FlowRefused, FlowReport, NameAsked, Reason, addresses
from sansnet_trio.audit.entries import Flow, amount, cut, errno_name, fields_of, verdict
from sansnet_trio.audit.suffixes import is_of_search
from sansnet_trio.events import Lost

if TYPE_CHECKING:
    from sansnet_trio.events import Event

__all__ = ["Summary"]

_MOST: Final = 10_000
"""Most targets, and most names, that have entries of their own."""
_LISTED: Final = 8
"""Most refused targets in the summary of one line."""


class _Target(NamedTuple):
    """A destination, as rules see it."""

    protocol: str
    inbound: bool
    host: str
    """A name, or an address."""
    port: int | None
    named: bool


class _Use:
    """The flows to one target.

    Attributes:
        opened: flows that were allowed.
        ended: flows that were refused after they were allowed.
        failed: allowed flows that the host could not connect, or that named another host.
        refused: flows that were not allowed.
        undecided: flows without a verdict in time.
        sent, received: payload bytes.
        errno: the errno of the last failure.
        other: flows whose first bytes named another host than the rules allow.
        rule: the rule that decided last.
    """

    __slots__ = ("ended", "errno", "failed", "opened", "other", "received", "refused", "rule", "sent", "undecided")

    def __init__(self) -> None:
        self.opened = self.failed = self.refused = self.undecided = self.sent = self.received = self.errno = 0
        self.ended = self.other = 0
        self.rule: str | None = None

    @property
    def reached(self) -> bool:
        return self.opened > self.failed

    @property
    def flows(self) -> int:
        """The number of flows, without those that the host could not connect."""
        return self.opened + self.refused - self.ended + self.undecided


class Summary:
    """The names and addresses that a guest reached, and those that the rules refused; `str()` of it is one line.

    After many thousand targets, further ones are only counted.

    Args:
        search: the search domains of the guest. A refused name that a resolver made with one of them is left out.
    """

    def __init__(self, search: Iterable[str] = ()) -> None:
        self._search = tuple(search)
        self._uses: dict[_Target, _Use] = {}
        self._others = _Use()
        """The flows to targets beyond the limit."""
        self._asked: dict[str, int] = {}
        """Name -> number of refused questions for it."""
        self._closed: dict[str, str] = {}
        """Name -> an address of it, if the rules close all of them."""
        self._omitted = 0

    def add(self, events: Iterable[Event]) -> None:
        """Take events."""
        for event in events:
            if isinstance(event, NameAsked):
                self._add_question(event)
            elif isinstance(event, FlowOpened | FlowRefused | FlowClosed):
                self._add_flow(event)
            elif isinstance(event, Lost):
                self._omitted += event.count

    def omit(self, count: int) -> None:
        """Count refused flows and questions that the network did not report, because there were too many."""
        self._omitted += count

    def flush(self) -> None:
        """Nothing to do; see `Account`."""

    def end(self, flows: Iterable[FlowReport] = ()) -> None:
        """Count the bytes of the flows that are open at the end."""
        for flow in flows:
            self._count_bytes(self._use(flow), flow)

    def _add_question(self, event: NameAsked) -> None:
        name = cut(event.name) or "."
        if name in self._asked or len(self._asked) < _MOST:
            self._asked[name] = self._asked.get(name, 0) + event.refused
            if event.address is not None:
                self._closed[name] = addresses.format_any(event.address)
        else:
            self._omitted += event.refused

    def _add_flow(self, event: FlowOpened | FlowRefused | FlowClosed) -> None:
        use = self._use(event)
        if isinstance(event, FlowClosed):
            self._count_bytes(use, event)
            if event.reason is not None:
                use.refused += 1
                use.ended += 1
                use.other += event.reason is Reason.NAME_REFUSED
                use.failed += not event.received
            return
        use.rule = event.rule
        if isinstance(event, FlowOpened):
            use.opened += 1
        elif event.reason is None:
            use.failed += 1
            use.errno = event.errno
        elif verdict(event) == "undecided":
            use.undecided += 1
        else:
            use.refused += 1

    def _count_bytes(self, use: _Use, flow: FlowClosed | FlowReport) -> None:
        use.sent += flow.sent
        use.received += flow.received

    def _use(self, flow: Flow) -> _Use:
        target = _target(flow)
        use = self._uses.get(target)
        if use is None:
            if len(self._uses) >= _MOST:
                return self._others
            use = self._uses[target] = _Use()
        return use

    def report(self, flows: Iterable[FlowReport] = (), most: int = 100) -> dict[str, Any]:
        """The summary as data for JSON; docs/audit.md describes it.

        Args:
            flows: the flows that are open now, whose bytes count too.
            most: most elements of each list.
        """
        open_: dict[_Target, list[FlowReport]] = {}
        for flow in flows:
            open_.setdefault(_target(flow), []).append(flow)
        groups: dict[str, list[dict[str, Any]]] = {"reached": [], "refused": [], "undecided": [], "failed": []}
        for target, use in self._uses.items():
            now = open_.get(target, ())
            entry = {
                "protocol": target.protocol,
                "direction": "in" if target.inbound else "out",
                "name" if target.named else "address": target.host,
                "port": target.port,
                "rule": cut(use.rule),
                "flows": use.flows,
                "sent": use.sent + sum(flow.sent for flow in now),
                "received": use.received + sum(flow.received for flow in now),
                "errno": errno_name(use.errno),
            }
            entry = {key: value for key, value in entry.items() if value is not None}
            for group in _groups(use):
                groups[group].append(entry)
        groups["refused_names"] = [
            {"name": name, "questions": self._asked[name]}
            | ({"address": self._closed[name]} if name in self._closed else {})
            for name in self._refused_names()
        ]
        return {
            **{group: found[:most] for group, found in groups.items()},
            "totals": {
                **{group: len(found) for group, found in groups.items()},
                "names": len(self._names()),
                "asked": len(self._asked),
                "omitted": self._omitted,
            },
        }

    @staticmethod
    def describe(report: dict[str, Any]) -> list[str]:
        """The lines for people about the result of `Summary.report`."""
        lines = []
        for group in ("reached", "refused", "undecided", "failed"):
            for entry in report[group]:
                ends = [
                    _count(entry["flows"], "flow"),
                    f"{amount(entry['sent'])} sent, {amount(entry['received'])} received",
                ]
                ends += [entry["errno"]] if group == "failed" else []
                ends += [f"rule {entry['rule']}"] if "rule" in entry else []
                host = entry.get("name") or entry["address"]
                target = _Target(
                    entry["protocol"], entry["direction"] == "in", host, entry.get("port"), "name" in entry
                )
                lines.append(f"{group}: {_text(target)} ({', '.join(ends)})")
        lines += [
            f"refused: {one['name']} (looked up, {_count(one['questions'], 'question')}"
            + (f", has the closed address {one['address']})" if "address" in one else ")")
            for one in report["refused_names"]
        ]
        more = {group: report["totals"][group] - len(report[group]) for group in report if group != "totals"}
        lines += [f"{group.replace('_', ' ')}: {count} more" for group, count in more.items() if count > 0]
        if report["totals"]["omitted"]:
            lines.append(f"not listed: {report['totals']['omitted']} more")
        return lines

    def _names(self) -> set[str]:
        """The names that were reached."""
        return {target.host for target, use in self._uses.items() if target.named and use.reached}

    def _refused_names(self) -> list[str]:
        asked = self._asked
        return [name for name, count in asked.items() if count and not is_of_search(name, self._search, asked)]

    def __str__(self) -> str:
        uses = self._uses.items()
        reached = [target for target, use in uses if use.reached]
        names = self._names()
        bare = {target.host for target in reached if not (target.named or target.inbound)}
        inbound = {target.port for target in reached if target.inbound}
        parts = [_count(len(names), "name")] if names or not bare else []
        parts += [_count(len(bare), "address", "es") + (" without a name" if names else "")] if bare else []
        sentences = ["reached " + " and ".join(parts)]
        sentences += [f"let in connections to {_count(len(inbound), 'port')}"] if inbound else []
        refused = [
            f"{name} (closed address {self._closed[name]})" if name in self._closed else name
            for name in self._refused_names()
        ]
        refused += [
            _text(target) + (" (by its first bytes)" if use.other else "") for target, use in uses if use.refused
        ]
        sentences += [f"refused {len(refused)}{_listed(refused)}"]
        undecided = [_text(target) for target, use in uses if use.undecided]
        sentences += [f"left {len(undecided)} undecided{_listed(undecided)}"] if undecided else []
        failed = [
            _text(target) + (f" ({errno_name(use.errno)})" if use.errno else "")
            for target, use in uses
            if "failed" in _groups(use)
        ]
        sentences += [f"could not connect to {len(failed)}{_listed(failed)}"] if failed else []
        others = self._others
        more = self._omitted + others.opened + others.refused + others.undecided
        sentences += [f"{more} more are not listed"] if more else []
        every = [use for _, use in uses] + [others]
        sent, received = sum(use.sent for use in every), sum(use.received for use in every)
        return f"{', '.join(sentences)}; {amount(sent)} sent, {amount(received)} received"


def _groups(use: _Use) -> Iterable[str]:
    if use.reached:
        yield "reached"
    elif use.failed and not use.refused:
        yield "failed"
    if use.refused:
        yield "refused"
    if use.undecided:
        yield "undecided"


def _target(flow: Flow) -> _Target:
    fields = fields_of(flow)
    named = fields["name"] is not None
    host = fields["name"] if named else fields["address"]
    return _Target(fields["protocol"], flow.inbound, host, fields["port"], named)


def _text(target: _Target) -> str:
    host = f"[{target.host}]" if ":" in target.host and target.port is not None else target.host
    if target.inbound:
        return f"{target.protocol} from {target.host} to port {target.port}"
    return f"{target.protocol} {host}" + ("" if target.port is None else f":{target.port}")


def _listed(texts: Sequence[str]) -> str:
    if not texts:
        return ""
    more = len(texts) - _LISTED
    return ": " + ", ".join(texts[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _count(number: int, noun: str, plural: str = "s") -> str:
    return f"{number} {noun}{'' if number == 1 else plural}"
