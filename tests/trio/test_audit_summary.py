"""The summary of what a guest reached and what the rules refused."""

from __future__ import annotations

import errno
from typing import Any

from sansnet_core import Endpoint, FlowClosed, FlowOpened, FlowRefused, FlowReport, NameAsked, Reason
from sansnet_core.orders import SocketId
from sansnet_trio import Event, Lost
from sansnet_trio.audit.summary import Summary

GUEST = Endpoint("10.0.2.15", 40000)
ID = SocketId(7)


def at(number: int, port: int = 443) -> Endpoint:
    return Endpoint(bytes((198, 18, number >> 8, number & 255)), port)


def opened(number: int, name: str | None = None, *, port: int = 443, protocol: int = 6) -> FlowOpened:
    return FlowOpened(ID, protocol, GUEST, at(number, port), at(number, port), False, 0.0, name, "web")


def closed(number: int, name: str | None = None, *, sent: int = 10, reason: Reason | None = None) -> FlowClosed:
    return FlowClosed(ID, 6, GUEST, at(number), at(number), False, sent, 2 * sent, 0, 0.0, name, reason)


def refused(
    number: int, name: str | None = None, *, reason: Reason | None = Reason.REFUSED, why: int = errno.EACCES
) -> FlowRefused:
    return FlowRefused(6, GUEST, at(number), None, why, reason, False, 0.0, name, "no")


def asked(name: str, *, refused: bool = False) -> NameAsked:
    return NameAsked(name, False, 0.0, 1, refused)


def summary(*events: Event) -> Summary:
    made = Summary()
    made.add(events)
    return made


def test_names_count_once_and_refusals_are_listed() -> None:
    made = summary(
        *(opened(1, "a.test"), closed(1, "a.test"), opened(1, "a.test", port=80)),
        *(opened(2, "b.test"), opened(3)),
        *(asked("evil.test", refused=True), asked("evil.test", refused=True), refused(9), refused(9)),
    )
    assert str(made) == (
        "reached 2 names and 1 address without a name, refused 2: evil.test, tcp 198.18.0.9:443; "
        "10 bytes sent, 20 bytes received"
    )


def test_a_name_whose_addresses_are_closed_is_refused_with_one_of_them() -> None:
    made = summary(asked("a.test"), NameAsked("a.test", False, 0.0, 1, True, "closed", bytes((10, 0, 0, 1))))
    assert str(made).startswith("reached 0 names, refused 1: a.test (closed address 10.0.0.1);")
    assert made.report()["refused_names"] == [{"name": "a.test", "questions": 1, "address": "10.0.0.1"}]
    assert made.describe(made.report()) == ["refused: a.test (looked up, 1 question, has the closed address 10.0.0.1)"]


def test_without_anything_it_says_so() -> None:
    assert str(summary()) == "reached 0 names, refused 0; 0 bytes sent, 0 bytes received"


def test_addresses_alone_are_no_names() -> None:
    assert str(summary(opened(1), opened(2))).startswith("reached 2 addresses, refused 0;")


def test_a_flow_that_failed_reached_nothing() -> None:
    made = summary(opened(1, "a.test"), refused(1, "a.test", reason=None, why=errno.ECONNREFUSED))
    assert str(made).startswith("reached 0 names, refused 0, could not connect to 1: tcp a.test:443 (ECONNREFUSED);")
    (failed,) = made.report()["failed"]
    assert (failed["name"], failed["errno"]) == ("a.test", "ECONNREFUSED")
    made.add([opened(1, "a.test")])
    assert str(made).startswith("reached 1 name,")


def test_a_connection_that_named_another_host_is_refused_and_reached_nothing() -> None:
    made = summary(
        opened(1, "a.test"),
        FlowClosed(ID, 6, GUEST, at(1), at(1), False, 0, 0, 0, 0.0, "a.test", Reason.NAME_REFUSED),
    )
    assert str(made).startswith("reached 0 names, refused 1: tcp a.test:443 (by its first bytes);")
    assert made.report()["refused"][0]["flows"] == 1


def test_a_flow_that_a_changed_rule_ended_was_reached_and_is_refused() -> None:
    made = summary(opened(1, "a.test"), closed(1, "a.test", reason=Reason.REFUSED))
    assert str(made).startswith("reached 1 name, refused 1: tcp a.test:443;")


def test_flows_without_a_decision_are_listed_apart() -> None:
    made = summary(refused(1, "a.test", reason=Reason.UNDECIDED, why=0))
    assert "refused 0, left 1 undecided: tcp a.test:443;" in str(made)


def test_flows_from_outside_are_counted_by_port() -> None:
    outsider = Endpoint("2001:db8::9", 50000)
    made = summary(FlowOpened(ID, 6, Endpoint("2001:db8::15", 80), outsider, outsider, inbound=True))
    assert str(made).startswith("reached 0 names, let in connections to 1 port, refused 0;")
    assert made.describe(made.report())[0].startswith("reached: tcp from 2001:db8::9 to port 80 (1 flow,")


def test_the_bytes_of_open_flows_count_at_the_end_and_in_between() -> None:
    made = summary(opened(1, "a.test"))
    now = FlowReport(ID, 6, GUEST, at(1), at(1), False, "ESTABLISHED", 1_234_567, 5, "a.test")
    assert made.report([now])["reached"][0]["sent"] == 1_234_567
    assert made.report()["reached"][0]["sent"] == 0
    made.end([now])
    assert str(made).endswith("; 1.23 MB sent, 5 bytes received")


def test_a_long_list_is_cut() -> None:
    made = summary(*(refused(number) for number in range(20)))
    assert "refused 20: tcp 198.18.0.0:443, " in str(made)
    assert " and 12 more;" in str(made)
    assert len(str(made)) < 1000


def test_its_memory_is_bounded_and_the_rest_is_counted() -> None:
    made = Summary()
    for number in range(12_000):
        made.add([asked(f"{number}.test", refused=True), refused(number % 65536)])
    made.add([Lost(7, 0.0)])
    made.omit(3)
    text = str(made)
    assert "refused 20000: " in text
    assert f"{2000 + 2000 + 7 + 3} more are not listed" in text
    found = made.report(most=10)
    assert len(found["refused"]) == len(found["refused_names"]) == 10
    assert found["totals"]["refused"] == 10_000


def test_the_data_have_all_fields_and_the_lines_are_made_of_them() -> None:
    made = summary(opened(1, "a.test"), closed(1, "a.test"), asked("b.test", refused=True), refused(9))
    found: dict[str, Any] = made.report()
    assert found["reached"] == [
        {
            "protocol": "tcp",
            "direction": "out",
            "name": "a.test",
            "port": 443,
            "rule": "web",
            "flows": 1,
            "sent": 10,
            "received": 20,
        }
    ]
    assert found["refused_names"] == [{"name": "b.test", "questions": 1}]
    assert made.describe(found) == [
        "reached: tcp a.test:443 (1 flow, 10 bytes sent, 20 bytes received, rule web)",
        "refused: tcp 198.18.0.9:443 (1 flow, 0 bytes sent, 0 bytes received, rule no)",
        "refused: b.test (looked up, 1 question)",
    ]


def test_a_refused_name_that_a_resolver_made_with_a_search_domain_is_left_out() -> None:
    made = Summary(["lab.example", "Corp.test."])
    names = ("a.test", "a.test.lab.example", "a.test.corp.test", "b.lab.example", "x.a.test", "a.test.other.example")
    made.add([asked(name, refused=True) for name in names])
    assert "refused 4: a.test, b.lab.example, x.a.test, a.test.other.example;" in str(made)
    assert made.report()["totals"]["refused_names"] == 4


def test_a_name_with_control_characters_is_shown_escaped() -> None:
    assert "evil\\x1b[2J.test" in str(summary(asked("evil\x1b[2J.test", refused=True)))
