"""Every verdict about a flow: what an unmodified program in the guest, or outside of it, sees.

The tables of docs/errors.md are the expectation. `python -m tests.lab.verdicts` prints them as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import Lab, Namespace
from tests.lab.deciding import FROM_OUTSIDE, VERDICTS, Case
from tests.lab.verdicts import INBOUND, OUTGOING, PROGRAMS, PROGRAMS_OUTSIDE, documented, guest_with_verdicts, servers

EXPECTED = documented()


@pytest.fixture(scope="module")
def guest(lab: Lab) -> Iterator[Namespace]:
    with servers(lab), guest_with_verdicts(lab) as made:
        yield made


def test_the_tables_have_every_verdict() -> None:
    assert {row[0] for row in EXPECTED[OUTGOING]} == {case.text for case in VERDICTS}
    assert ("any other", 4) in EXPECTED[INBOUND]


@pytest.mark.parametrize("case", VERDICTS, ids=lambda case: case.text)
@pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_in_the_guest_sees_the_verdict(guest: Namespace, case: Case, version: int, program: str) -> None:
    assert PROGRAMS[program](guest, case, version) == EXPECTED[OUTGOING][case.text, version][program]


@pytest.mark.parametrize("case", FROM_OUTSIDE, ids=lambda case: case.text)
@pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("program", PROGRAMS_OUTSIDE)
def test_a_program_outside_sees_the_verdict(lab: Lab, guest: Namespace, case: Case, version: int, program: str) -> None:
    seen = PROGRAMS_OUTSIDE[program](lab.upstream, guest, case, version)
    table = EXPECTED[INBOUND]
    row = table.get((case.text, version)) or table["any other", version]
    assert seen == row[program]


def alone(lab: Lab, what: str) -> list[list[str]]:
    """The words of the lines that `tests.lab.alone` prints."""
    root = Path(__file__).resolve().parents[2]
    return [
        line.split()
        for line in lab.host.run(
            "env", f"PYTHONPATH={root}", sys.executable, "-W", "error", "-m", "tests.lab.alone", what
        ).stdout.splitlines()
    ]


def test_virtual_addresses_are_pinged_and_refused_here_without_a_socket_of_the_host(lab: Lab) -> None:
    *rows, sockets = alone(lab, "virtual")
    assert len(rows) > 5
    assert [row[1:] for row in rows] == [["ECONNREFUSED", "ECONNREFUSED", "reply"]] * len(rows)
    assert sockets == ["sockets", "0", "0"]


def test_an_exception_of_a_decider_ends_the_network_and_leaves_the_block_alone(lab: Lab) -> None:
    row, raised = alone(lab, "failing")
    assert set(row[1:]) <= {"silence", "ENETUNREACH"}  # the latter once the interface is gone
    assert raised == ["raised", "'a", "mistake'", "None"]
