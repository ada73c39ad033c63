"""The strategies make what they say, for every configuration, and the network takes all of it."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from sansnet_core import Limits, Network, NetworkConfig, Reason, UsageError
from sansnet_core.testing import SECRET, make_config
from sansnet_core.testing.strategies import (
    PROTOCOLS,
    batches,
    configs,
    frames,
    hostile_frames,
    limits,
    links,
    nearly_valid_frames,
    valid_frames,
)

MALFORMED = {reason for reason in Reason if reason.name.endswith(("_MALFORMED", "_CHECKSUM", "_TRUNCATED", "_SOURCE"))}
MALFORMED |= {Reason.FRAME_TOO_LARGE, Reason.VNET_HEADER, Reason.ETHERNET_TYPE, Reason.IPV6_EXTENSION, Reason.IP_TTL}


def dropped(config: NetworkConfig, *received: bytes) -> Counter[Reason]:
    network = Network(config, now=0.0, secret=SECRET)
    network.receive_frames(received, 0.0)
    network.take_orders()
    network.take_frames()
    return Counter({reason: count for reason, count in network.statistics().drops.items() if count})


@pytest.mark.slow
@settings(max_examples=300)
@given(st.data())
def test_valid_frames_are_not_malformed(data: st.DataObject) -> None:
    config = data.draw(configs())
    assert not dropped(config, data.draw(valid_frames(config))).keys() & MALFORMED


@pytest.mark.slow
@settings(max_examples=300)
@given(st.data())
def test_nothing_raises(data: st.DataObject) -> None:
    config = data.draw(configs())
    dropped(config, *data.draw(batches(config)))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_one_protocol_alone(protocol: str) -> None:
    config = make_config()
    for strategy in (valid_frames, nearly_valid_frames, hostile_frames, frames):
        assert isinstance(find(strategy(config, [protocol]), lambda frame: len(frame) > 30), bytes)


@pytest.mark.parametrize("wrong", [["tpc"], [], ["udp", "x"], "udp"])
def test_an_unknown_protocol_is_refused(wrong: list[str]) -> None:
    with pytest.raises(UsageError, match="give some of arp, udp, tcp"):
        valid_frames(make_config(), wrong)


@pytest.mark.slow
def test_limits_go_from_tiny_to_default() -> None:
    assert find(limits(), lambda found: True) == Limits()
    only_search = settings(phases=[Phase.generate], max_examples=1000)
    assert find(limits(), lambda found: found.tcp_memory < 100 and found.tcp_linger < 1, settings=only_search)


def test_links_with_and_without_offload_headers() -> None:
    assert not find(links(vnet=False), lambda link: True).vnet_header
    assert find(links(vnet=True), lambda link: link.uso).vnet_header


def test_fields_of_a_configuration_can_be_fixed() -> None:
    config = find(configs(mac="02:00:00:00:00:07", ipv6=None, limits=st.just(Limits(tcp_flows=7))), lambda found: True)
    assert (config.mac[-1], config.ipv6, config.limits.tcp_flows) == (7, None, 7)
    with pytest.raises(TypeError, match="has no field mtu"):
        configs(mtu=7)


def test_without_hypothesis_the_extra_is_named() -> None:
    """And the rest of the kit works."""
    script = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "import sansnet_core.testing\n"
        "try:\n    import sansnet_core.testing.strategies\n"
        "except ModuleNotFoundError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.endswith("which is not installed: install sansnet-core[hypothesis]\n")


def test_a_failure_is_reduced_to_what_matters() -> None:
    """The default configuration and the simplest frame, but for the condition itself."""
    config = find(configs(), lambda found: found.link.vnet_header and found.resolver is not None)
    assert config.limits == Limits()
    assert (config.link.tso4, config.ipv6 is not None, config.rules, config.learn_addresses) == (False, True, (), True)
    reset = find(
        valid_frames(make_config(), ["udp", "tcp"]), lambda frame: frame[23:24] == b"\6" and frame[47:48] == b"\4"
    )
    assert len(reset) == 54
    assert reset[26:34] == bytes((10, 0, 2, 15, 192, 0, 2, 80))
