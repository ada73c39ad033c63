"""A bad network for virtual machines, on each link."""

from __future__ import annotations

import re

import pytest

from tests.lab import SERVER4
from tests.lab.noise import Noise
from tests.lab.qemu import EACH_ONCE
from tests.lab.virtual_machines import Kind, Stable


@pytest.mark.parametrize("kind", EACH_ONCE, indirect=True, ids="-".join)
def test_a_machine_has_the_delay_and_the_rate_and_files_pass_whole(stable: Stable, kind: Kind, noise: Noise) -> None:
    options = ("--delay", "up=40ms,down=20ms", "--rate", "80mbit", "--loss", "0.1%", "--corrupt", "up=0.1%")
    with stable.served(kind, *options) as machine:
        said = machine.shell(f"ping -c 5 -W 2 {SERVER4}", check=False).stdout
        times = [float(each) for each in re.findall(r"time=([\d.]+) ms", said)]
        assert len(times) >= 3
        assert 60 <= min(times) < 110
        url = noise.url(SERVER4)
        done = machine.shell(f"time wget -q -O /tmp/noise {url} 2>&1; sha256sum </tmp/noise", timeout=120)
        assert noise.digest in done.stdout
        up = machine.shell(f"wget -q -O - --post-file /tmp/noise {url}", timeout=120)
        assert up.stdout == noise.digest
