"""The strategies make what they say, for every configuration, and the network takes all of it."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import Phase, assume, find, given, settings
from hypothesis import strategies as st

from sansnet_core import Limits, LinkConfig, Network, NetworkConfig, Reason, UsageError
from sansnet_core.inspect import Forbidden, make
from sansnet_core.policy import Check
from sansnet_core.records import replace
from sansnet_core.testing import GATEWAY, SECRET, SERVER, HostScript, Impairment, make_config, with_checksums
from sansnet_core.testing.strategies import (
    MESSAGES,
    PROTOCOLS,
    batches,
    configs,
    frames,
    host_scripts,
    hostile_frames,
    impairments,
    limits,
    links,
    messages,
    nearly_valid_frames,
    valid_frames,
    valid_messages,
)
from sansnet_core.wire import dhcp4, dhcp6, dns_message
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


@settings(max_examples=300)
@given(st.data())
def test_valid_messages_are_read(data: st.DataObject) -> None:
    """By the readers that the network has for what comes from the guest."""
    protocol = data.draw(st.sampled_from(MESSAGES))
    message = data.draw(valid_messages(make_config(), [protocol]))
    if protocol in ("tls", "http"):
        inspector = make(Check(protocol), lambda name: True, strict=True)
        with suppress(Forbidden):  # that the name is unclear, such as one of two, is no fault of the message
            inspector.feed(message)
    else:
        parse = {"dhcp": dhcp4.parse, "dhcp6": dhcp6.parse}.get(protocol)
        assert dns_message.parse(message) if parse is None else parse(message, 0, len(message))


@pytest.mark.parametrize("protocol", MESSAGES)
def test_some_messages_are_valid_and_some_are_not(protocol: str) -> None:
    config = make_config()
    valid = find(messages(config, [protocol]), lambda message: len(message) > 10)
    assert isinstance(valid, bytes)
    assert find(messages(config, [protocol]), lambda message: 0 < len(message) < 5)


def test_the_surroundings_are_perfect_at_first_and_as_bad_as_asked_for() -> None:
    assert find(impairments(), lambda cable: True) == Impairment()
    assert find(host_scripts(), lambda script: True) == HostScript()
    bad = find(impairments(corrupt=True), lambda cable: cable.loss > 0 and cable.corrupt > 0 and cable.jitter > 0)
    assert bad.longest_loss == 3
    assert find(impairments(longest_loss=None), lambda cable: cable.loss > 0 and cable.rate > 0).longest_loss is None
    assert find(host_scripts(), lambda script: script.connect is None)


@given(st.data())
def test_the_surroundings_have_what_was_left_out_never(data: st.DataObject) -> None:
    assert data.draw(impairments()).corrupt == 0
    assert data.draw(host_scripts(connects=True)).connect == 0


def test_a_strategy_is_shown_by_the_addresses_of_its_guest() -> None:
    assert "Parties(10.0.2.15, 2001:db8::15)" in repr(valid_frames(make_config()))
    with pytest.raises(UsageError, match=r"destinations: .* is not a list of addresses"):
        valid_frames(make_config(), destinations=["nowhere"])


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
