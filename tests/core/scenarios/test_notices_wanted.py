"""A network makes notices while its configuration or its driver wants them."""

from __future__ import annotations

import pytest

from sansnet_core.records import replace
from sansnet_core.testing import Pair


@pytest.mark.parametrize("configured", [False, True])
def test_a_driver_switches_notices_on_and_back_to_the_configuration(configured: bool) -> None:
    pair = Pair()
    pair = Pair(replace(pair.config, notices=configured))
    seen = []
    for wanted in (None, True, False):
        if wanted is not None:
            pair.network.report_notices(wanted)
        pair.notices.clear()
        pair.connect()
        pair.settle()
        seen.append(bool(pair.notices))
    assert seen == [configured, True, configured]
