"""Every verdict about a flow: what an unmodified program in the guest, or outside of it, sees.

The tables of docs/errors.md are the expectation. `python -m tests.lab.verdicts` prints them as they are.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import Lab, Namespace
from tests.lab.deciding import VERDICTS, Case
from tests.lab.verdicts import FROM_OUTSIDE, INBOUND, OUTGOING, PROGRAMS, documented, guest_with_verdicts, servers

EXPECTED = documented()


@pytest.fixture(scope="module")
def guest(lab: Lab) -> Iterator[Namespace]:
    with servers(lab), guest_with_verdicts(lab) as made:
        yield made


def test_the_tables_have_every_verdict() -> None:
    assert {row[0] for row in EXPECTED[OUTGOING]} >= {case.text for case in VERDICTS}
    assert {row[0] for row in EXPECTED[INBOUND]} >= {case.text for case in VERDICTS}


@pytest.mark.parametrize("case", VERDICTS, ids=lambda case: case.text)
@pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_in_the_guest_sees_the_verdict(guest: Namespace, case: Case, version: int, program: str) -> None:
    assert PROGRAMS[program](guest, case, version) == EXPECTED[OUTGOING][case.text, version][program]


@pytest.mark.parametrize("case", VERDICTS, ids=lambda case: case.text)
@pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("program", FROM_OUTSIDE)
def test_a_program_outside_sees_the_verdict(lab: Lab, guest: Namespace, case: Case, version: int, program: str) -> None:
    seen = FROM_OUTSIDE[program](lab.upstream, guest, case, version)
    assert seen == EXPECTED[INBOUND][case.text, version][program]
