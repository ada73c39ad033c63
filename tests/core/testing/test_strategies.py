"""The strategies make what they say, for every configuration, and the network takes all of it."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import Phase, assume, find, given, settings
from hypothesis import strategies as st

from sansnet_core import Limits, LinkConfig, Network, NetworkConfig, Reason, UsageError
from sansnet_core.records import replace
from sansnet_core.testing import GATEWAY, SECRET, SERVER, make_config, with_checksums
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
from tests.fuzz.scapy_check import check_by_scapy

OFFLOADS = LinkConfig(mtu=1500, max_frame_size=65549, vnet_header=True, checksum_offload=True, tso4=True, tso6=True)
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


SCAPY_READS = [name for name in PROTOCOLS if name not in ("icmp", "igmp")]
"""It computes the lengths of quoted packets again, and does not know the third version of IGMP."""


@pytest.mark.slow
@settings(max_examples=300)
@given(st.data())
def test_valid_frames_are_valid_by_scapy(data: st.DataObject) -> None:
    frame = data.draw(valid_frames(data.draw(configs(link=links(vnet=False))), SCAPY_READS))
    if frame[12:14] == b"\x81\0":  # a priority tag
        frame = frame[:12] + frame[16:]
    assume(with_checksums(frame) == frame)  # a UDP checksum may be left out
    check_by_scapy(frame)


@given(st.data())
def test_checksums_are_repaired(data: st.DataObject) -> None:
    config = make_config(data.draw(st.sampled_from([None, OFFLOADS])))
    vnet = config.link.vnet_header
    frame = with_checksums(data.draw(valid_frames(config)), vnet=vnet)
    damaged = bytearray(frame)
    start = 12 * vnet + 14
    if frame[start - 2 : start] == b"\x08\0":
        damaged[start + 10] ^= 0xFF
        if frame[start + 9] == 6 and not frame[0] * vnet and frame[start] == 0x45:
            damaged[start + 20 + 16] ^= 0xFF * (int.from_bytes(frame[start + 6 : start + 8], "big") & 0x3FFF == 0)
    assert with_checksums(bytes(damaged), vnet=vnet) == frame


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


@pytest.mark.slow
@pytest.mark.parametrize("protocol", [name for name in PROTOCOLS if name != "igmp"])
def test_some_valid_frames_have_an_effect(protocol: str) -> None:
    """The network answers, or orders a socket: the frames go to the right parties."""
    config = replace(make_config(), dns_servers=(GATEWAY,), hosts=(("host.example", (SERVER,)),))

    def has_effect(frame: bytes) -> bool:
        network = Network(config, now=0.0, secret=SECRET)
        network.receive_frames([frame], 0.0)
        return bool(network.take_orders() or network.take_frames())

    assert find(valid_frames(config, [protocol]), has_effect, settings=settings(max_examples=500))


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
    assert None not in (config.ipv4, config.ipv6)
    assert (config.link.tso4, config.rules, config.learn_addresses) == (False, (), True)
    reset = find(
        valid_frames(make_config(), ["udp", "tcp"]),
        lambda frame: frame[23:24] == b"\6" and frame[47:48] == b"\4",
        settings=settings(max_examples=20_000),  # few segments are a reset without anything else
    )
    assert len(reset) == 54
    assert reset[26:34] == bytes((10, 0, 2, 15, 192, 0, 2, 80))
