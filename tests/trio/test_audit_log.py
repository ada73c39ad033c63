"""The audit: lines of JSON about decisions and names."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable
from io import BytesIO
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core import Endpoint, FlowClosed, FlowOpened, FlowRefused, FlowReport, NameAsked, Reason
from sansnet_core.notices import LeaseGiven
from sansnet_core.orders import SocketId
from sansnet_trio import Event, Lost
from sansnet_trio.audit.file import AuditFile
from sansnet_trio.audit.log import AuditLog

GUEST = Endpoint("10.0.2.15", 40000)
LEASED = Endpoint("198.18.0.1", 443)
REAL = Endpoint("203.0.113.7", 443)
ID = SocketId(7)


class Bench:
    """An audit in memory, with clocks that a test sets."""

    def __init__(self, **options: Any) -> None:
        self.memory = BytesIO()
        self.now = 100.0
        self.log = AuditLog(AuditFile(self.memory), clock=lambda: self.now, wall=lambda: self.now + 1e9, **options)

    def add(self, *events: Event) -> None:
        self.log.add(events)

    def entries(self) -> list[dict[str, Any]]:
        data = self.memory.getvalue()
        assert data.isascii()
        assert data.endswith(b"\n")
        return [json.loads(line) for line in data.splitlines()]

    def kinds(self) -> list[str]:
        return [entry["kind"] for entry in self.entries()]


def entry(*events: Event) -> dict[str, Any]:
    """The fields of the line about the last event."""
    bench = Bench()
    bench.add(*events)
    found = bench.entries()[-1]
    assert found.pop("pid") == os.getpid()
    return found


def opened(name: str | None = "example.org", rule: str | None = "web") -> FlowOpened:
    return FlowOpened(ID, 6, GUEST, LEASED, REAL, False, 99.5, name, rule)


def refused(reason: Reason | None = Reason.REFUSED, why: int = errno.EACCES, inbound: bool = False) -> FlowRefused:
    return FlowRefused(6, GUEST, LEASED, None, why, reason, inbound, 100.0, "example.org", "no")


def asked(name: str = "example.org", refused: bool = False, rule: str | None = "web") -> NameAsked:
    return NameAsked(name, False, 100.0, 28, refused, rule)


FLOW = {
    "protocol": "tcp",
    "direction": "out",
    "name": "example.org",
    "address": "198.18.0.1",
    "port": 443,
    "guest": "10.0.2.15:40000",
}


def test_a_flow_that_may_open_has_a_line_with_the_rule_and_the_time() -> None:
    assert entry(opened()) == FLOW | {
        "time": "2001-09-09T01:48:19.500Z",
        "kind": "flow",
        "verdict": "allow",
        "rule": "web",
        "host": "203.0.113.7:443",
        "flow": 7,
    }


def test_a_flow_that_ends_has_a_line_with_its_bytes() -> None:
    closed = FlowClosed(ID, 6, GUEST, LEASED, REAL, False, 10, 20, errno.ECONNRESET, 100.0, "example.org", None, "web")
    assert entry(closed) == FLOW | {
        "time": "2001-09-09T01:48:20.000Z",
        "kind": "closed",
        "verdict": "allow",
        "rule": "web",
        "host": "203.0.113.7:443",
        "flow": 7,
        "sent": 10,
        "received": 20,
        "errno": "ECONNRESET",
    }


@pytest.mark.parametrize(
    ("event", "verdict", "more"),
    [
        (refused(), "refuse", {"reason": "REFUSED", "errno": "EACCES"}),
        (refused(why=0), "drop", {"reason": "REFUSED"}),
        (refused(Reason.UNDECIDED, 0), "undecided", {"reason": "UNDECIDED"}),
        (refused(Reason.UNDECIDED_LIMIT, 0), "undecided", {"reason": "UNDECIDED_LIMIT"}),
        (refused(Reason.IP_DESTINATION, 0), "refuse", {"reason": "IP_DESTINATION"}),
    ],
)
def test_a_flow_that_may_not_open_has_a_line_with_the_reason(
    event: FlowRefused, verdict: str, more: dict[str, Any]
) -> None:
    found = entry(event)
    del found["time"]
    assert found == FLOW | {"kind": "flow", "verdict": verdict, "rule": "no", **more}


def test_a_flow_that_the_host_could_not_connect_is_no_refusal() -> None:
    found = entry(refused(None, errno.ECONNREFUSED))
    assert (found["kind"], found["verdict"], found["errno"]) == ("failed", "allow", "ECONNREFUSED")


def test_a_flow_that_a_rule_ended_is_a_refusal() -> None:
    found = entry(
        FlowClosed(ID, 6, GUEST, LEASED, REAL, False, 0, 0, 0, 100.0, "example.org", Reason.NAME_REFUSED, "web")
    )
    assert (found["kind"], found["verdict"], found["reason"]) == ("closed", "refuse", "NAME_REFUSED")


def test_a_question_has_a_line_with_its_type() -> None:
    assert entry(asked()) == {
        "time": "2001-09-09T01:48:20.000Z",
        "kind": "question",
        "verdict": "allow",
        "rule": "web",
        "name": "example.org",
        "type": "AAAA",
    }
    assert entry(asked(refused=True))["verdict"] == "refuse"


def test_an_answer_whose_addresses_are_closed_has_a_line_with_one_of_them() -> None:
    bench = Bench()
    bench.add(asked(), NameAsked("example.org", False, 100.0, 28, True, "closed", bytes(15) + b"\x01"))
    bench.log.end()
    _, question, answer, end = bench.entries()
    assert (answer["kind"], answer["verdict"], answer["rule"]) == ("answer", "refuse", "closed")
    assert (answer["name"], answer["type"], answer["address"]) == ("example.org", "AAAA", "::1")
    assert (question["kind"], end["questions"], end["refused_questions"]) == ("question", 1, 0)


def test_a_flow_from_outside_has_the_guests_port_and_the_outsiders_address() -> None:
    outsider = Endpoint("2001:db8::9", 55555)
    found = entry(
        FlowOpened(ID, 6, Endpoint("2001:db8::15", 8080), outsider, outsider, inbound=True, time=100.0, rule="in")
    )
    assert (found["direction"], found["address"], found["port"]) == ("in", "2001:db8::9", 8080)
    assert (found["host"], found["guest"]) == ("[2001:db8::9]:55555", "[2001:db8::15]:8080")


def test_a_ping_has_no_port() -> None:
    found = entry(FlowOpened(ID, 1, GUEST, Endpoint("192.0.2.7", 12), Endpoint("192.0.2.7", 12), time=100.0))
    assert "port" not in found
    assert (found["protocol"], found["host"], found["guest"]) == ("ping", "192.0.2.7", "10.0.2.15")


def test_a_lease_has_no_line() -> None:
    bench = Bench()
    bench.add(LeaseGiven(bytes(4), bytes(6)))
    assert bench.kinds() == ["start"]


def test_the_last_lines_have_the_open_flows_and_the_totals() -> None:
    bench = Bench()
    bench.add(opened(), refused(), asked(), asked(refused=True))
    report = FlowReport(ID, 6, GUEST, LEASED, REAL, False, "ESTABLISHED", 3, 4, "example.org")
    bench.log.end([report])
    bench.log.end([report])
    assert bench.kinds() == ["start", "flow", "flow", "question", "question", "open", "end"]
    still, end = bench.entries()[-2:]
    assert (still["flow"], still["sent"], still["received"]) == (7, 3, 4)
    totals = {"flows": 2, "refused_flows": 1, "questions": 2, "refused_questions": 1, "sent": 3, "received": 4}
    assert totals.items() <= end.items()


def test_a_flood_of_refusals_is_summed_up_once_per_interval_and_leaves_room_for_the_rest() -> None:
    bench = Bench(refused_lines=10)
    for number in range(5000):
        bench.add(asked(f"{number}.secret.test", refused=True))
        bench.add(refused())
        bench.now += 0.001
    bench.add(opened())
    entries = bench.entries()
    assert sum(one["kind"] == "flow" and one["verdict"] == "allow" for one in entries) == 1
    lines = [one for one in entries if one["kind"] in ("flow", "question")]
    assert len(lines) <= 10 * 6 + 1
    sums = [one for one in entries if one["kind"] == "omitted"]
    assert 3 <= len(sums) <= 6
    bench.log.end()
    sums = [one for one in bench.entries() if one["kind"] == "omitted"]
    left_out = sum(one["refused_flows"] + one["refused_questions"] for one in sums)
    assert left_out + len(lines) - 1 == 10000
    assert all(one["seconds"] >= 1.0 for one in sums[:-1])


def test_a_flood_of_allowed_flows_is_bounded_too() -> None:
    bench = Bench(lines=10)
    for _ in range(1000):
        bench.add(opened())
    bench.log.end()
    assert bench.kinds().count("flow") == 10
    (left_out,) = (one for one in bench.entries() if one["kind"] == "omitted")
    assert left_out["flows"] == 990


def test_the_sums_come_without_another_event() -> None:
    bench = Bench(refused_lines=1)
    for _ in range(10):
        bench.add(refused())
    bench.log.flush()
    assert "omitted" not in bench.kinds()
    bench.now += 1.0
    bench.log.flush()
    assert bench.kinds()[-1] == "omitted"
    bench.now += 1.0
    bench.log.flush()
    assert bench.kinds().count("omitted") == 1


def test_refusals_that_the_network_did_not_report_and_lost_events_are_counted() -> None:
    bench = Bench()
    bench.log.omit(5)
    bench.log.omit(0)
    bench.add(Lost(3, 100.0))
    bench.log.end()
    left_out, end = bench.entries()[-2:]
    assert (left_out["unreported"], left_out["unseen"]) == (5, 3)
    assert end["unreported"] == 5


class Failing(BytesIO):
    """A file on a disk that is full for a while."""

    full = False

    def write(self, data: Any) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def test_lines_that_a_full_disk_lost_are_counted_when_there_is_room_again(caplog: pytest.LogCaptureFixture) -> None:
    memory = Failing()
    now = 100.0
    log = AuditLog(AuditFile(memory), clock=lambda: now)
    memory.full = True
    for _ in range(3):
        log.add([opened()])
    memory.full = False
    now += 1.0
    log.add([opened()])
    log.add([opened()])
    kinds = [json.loads(line)["kind"] for line in memory.getvalue().splitlines()]
    assert kinds == ["start", "omitted", "flow"]
    assert json.loads(memory.getvalue().splitlines()[1])["lost"] == 4
    assert len(caplog.messages) == 1


@given(st.text(), st.text(), st.sampled_from([asked, opened]))
def test_no_name_or_rule_of_any_kind_breaks_a_line(name: str, rule: str, make: Any) -> None:
    event = make(name, rule=rule)

    bench = Bench()
    bench.add(event)
    data = bench.memory.getvalue()
    assert len(data.splitlines()) == data.count(b"\n") == 2
    assert all(byte == 10 or 32 <= byte < 127 for byte in data)
    found = bench.entries()[-1]
    assert len(found["name"]) <= 253
    assert found["name"].isprintable()
    assert found["rule"].isprintable()
    assert len(data) < 4096


def test_a_name_longer_than_names_are_is_cut() -> None:
    found = entry(asked("x" * 300))["name"]
    assert found == "x" * 250 + "..."


def test_the_times_are_those_of_the_wall_clock() -> None:
    async def main(events: Iterable[Event]) -> dict[str, Any]:
        memory = BytesIO()
        log = AuditLog(AuditFile(memory), wall=lambda: 0.0)
        log.add(events)
        found: dict[str, Any] = json.loads(memory.getvalue().splitlines()[0])
        return found

    assert trio.run(main, [])["time"] == "1970-01-01T00:00:00.000Z"
