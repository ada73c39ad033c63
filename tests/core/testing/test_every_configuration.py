"""Every kind of frame against every kind of configuration: the invariants of `session.py`."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sansnet_core import Allow, Drop, Refuse, Serve
from sansnet_core.testing import HostScript
from sansnet_core.testing.strategies import batches, configs
from tests.core.testing.session import Session

VERDICTS = [Allow(), None, Refuse(), Drop(), Serve()]
SCRIPTS = st.builds(
    HostScript,
    connect=st.sampled_from([0, 0, 111, 113, None]),
    accept=st.sampled_from([None, 1, 1000]),
    produce=st.sampled_from([b"", b"x", bytes(5000), bytes(100_000)]),
    echo=st.booleans(),
    end=st.booleans(),
)


@pytest.mark.slow
@settings(max_examples=150)
@given(st.data())
def test_any_frames_in_any_configuration(data: st.DataObject) -> None:
    config = data.draw(configs())
    session = Session(config, data.draw(SCRIPTS), data.draw(st.sampled_from(VERDICTS)))
    if data.draw(st.booleans()):
        session.network.guest_attached(session.now)
        session.outputs()
    for _ in range(data.draw(st.integers(1, 4))):
        session.receive(data.draw(batches(config)))
        session.advance(data.draw(st.sampled_from([0.0, 0.3, 100.0])))
        answer = data.draw(st.sampled_from([None, b"", b"1234", bytes(1000), bytes(60_000)]))
        if answer is not None:
            session.answer(answer, failed=data.draw(st.booleans()))
    session.finish()
