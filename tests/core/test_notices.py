"""The lines that notices are for people."""

from __future__ import annotations

import errno

import pytest

from sansnet_core import Endpoint, FlowClosed, FlowOpened, FlowRefused, FlowReport, LeaseGiven, NameAsked, Reason
from sansnet_core.notices import plain
from sansnet_core.orders import SocketId

GUEST = Endpoint("10.0.2.15", 40000)
LEASED = Endpoint("198.18.0.1", 443)
REAL = Endpoint("203.0.113.7", 443)
ID = SocketId(1)


def test_a_flow_is_shown_with_its_name_and_the_rule() -> None:
    flow = FlowOpened(ID, 6, GUEST, LEASED, REAL, False, 1.0, "example.org", "packages")
    ends = "tcp 10.0.2.15:40000 to 198.18.0.1:443 (for example.org, on the host: 203.0.113.7:443)"
    assert str(flow) == f"{ends} opened by rule packages"
    closed = FlowClosed(ID, 6, GUEST, LEASED, REAL, False, 5, 7, 0, 2.0, "example.org", None, "packages")
    assert str(closed) == f"{ends} closed: 5 bytes sent, 7 received"
    report = FlowReport(ID, 6, GUEST, LEASED, REAL, False, "ESTABLISHED", 5, 7, "example.org", "packages")
    assert str(report) == f"{ends} ESTABLISHED: 5 bytes sent, 7 received"


def test_a_flow_without_a_name_is_shown_as_ever() -> None:
    assert str(FlowOpened(ID, 17, GUEST, REAL, REAL)) == "udp 10.0.2.15:40000 to 203.0.113.7:443 opened"


def test_a_lease_is_shown_with_its_client() -> None:
    assert str(LeaseGiven(GUEST.address, bytes(5) + b"\x0a")) == "10.0.2.15 leased to 00:00:00:00:00:0a"


def test_a_refused_flow_is_shown_with_the_rule_and_the_reason() -> None:
    refused = FlowRefused(6, GUEST, LEASED, None, errno.EACCES, Reason.REFUSED, False, 1.0, "example.org", "drop all")
    assert str(refused) == (
        "tcp 10.0.2.15:40000 to 198.18.0.1:443 (for example.org) refused by rule drop all (EACCES): "
        "new flow that a rule or a verdict refuses"
    )


def test_a_flow_that_was_ended_by_a_rule_is_shown_with_the_reason() -> None:
    closed = FlowClosed(ID, 6, GUEST, LEASED, LEASED, False, 0, 0, 0, 2.0, "example.org", Reason.NAME_REFUSED)
    assert str(closed).endswith(f"closed: 0 bytes sent, 0 received; {Reason.NAME_REFUSED.value}")


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        (NameAsked("example.org", True), "example.org looked up: answered here"),
        (NameAsked("example.org", False, type=28), "example.org (AAAA) looked up: forwarded"),
        (NameAsked("example.org", False, type=28, refused=True), "example.org (AAAA) looked up: refused"),
        (NameAsked("x.test", False, 1.0, 65400, True, "no"), "x.test (TYPE65400) looked up: refused by rule no"),
    ],
)
def test_a_question_is_shown_with_its_type_and_the_decision(asked: NameAsked, shown: str) -> None:
    assert str(asked) == shown


def test_names_and_rules_do_not_change_the_line() -> None:
    asked = NameAsked("a\x1b[31m\n\u00e9.test", False, 1.0, 1, True, "line\nline")
    assert str(asked) == "a\\x1b[31m\\n\\xe9.test (A) looked up: refused by rule line\\nline"
    assert plain("example.org") == "example.org"
