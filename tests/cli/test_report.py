"""Messages for the user."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

import pytest

from sansnet_cli.output import report
from sansnet_core import Action, Ipv4Config, NetworkConfig
from sansnet_core.addresses import parse
from sansnet_core.impairment import NetemStatistics
from sansnet_core.policy import ProxyConfig, ProxyKind, parse_rule
from sansnet_core.ports import TCP, UDP, parse_all
from sansnet_trio.forward.binding import ListenAddress


@pytest.mark.parametrize(
    ("option", "spec", "line"),
    [
        ("-t", "80", "TCP: host *:80 -> guest port 80"),
        ("-t", "8080:80", "TCP: host *:8080 -> guest port 80"),
        ("-u", "8000-8010:9000-9010", "UDP: host *:8000-8010 -> guest ports 9000-9010"),
        ("-t", "127.0.0.1/8080:80", "TCP: host 127.0.0.1:8080 -> guest port 80"),
        ("-t", "fe80::1%eth0/80", "TCP: host [fe80::1]%eth0:80 -> guest port 80"),
        ("-t", "%eth0/80", "TCP: host *%eth0:80 -> guest port 80"),
        ("-t", "80:10.0.2.15/8080", "TCP: host 0.0.0.0:80 -> guest 10.0.2.15:8080"),
        ("-t", "80:[2001:db8::2]", "TCP: host [::]:80 -> guest [2001:db8::2]:80"),
        ("-T", "5432", "TCP: guest 127.0.0.1:5432 and [::1]:5432 -> host port 5432"),
        ("-U", "5353:53", "UDP: guest 127.0.0.1:5353 and [::1]:5353 -> host port 53"),
        ("-t", "auto,80", "TCP: host *:80 -> guest port 80 (while a program listens in the guest)"),
        ("-T", "auto,80", "TCP: guest 127.0.0.1:80 and [::1]:80 -> host port 80 (while a program listens on the host)"),
        ("-t", "all", "TCP: host *:1-65535 -> guest ports 1-65535 (only ports that are free and not ephemeral)"),
    ],
)
def test_a_forward_is_one_line(option: str, spec: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    protocol = TCP if option.lower() == "-t" else UDP
    [rule] = parse_all([spec], protocol, inbound=option.islower())
    report.forward(rule)
    assert capsys.readouterr().err == f"sansnet: {line}\n"


def test_a_port_that_follows_a_listener_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    [rule] = parse_all(["auto"], TCP)
    report.followed(ListenAddress(TCP, True, parse("0.0.0.0"), None, 8080), rule, opened=True)
    report.followed(ListenAddress(TCP, True, parse("::"), None, 8080), rule, opened=False)
    assert capsys.readouterr().err.splitlines() == [
        "sansnet: TCP: host 0.0.0.0:8080 -> guest port 8080: opened, because a program listens there",
        "sansnet: TCP: host [::]:8080 -> guest port 8080: closed, because no program listens there any more",
    ]


def test_the_policy_is_part_of_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    config = NetworkConfig(
        ipv4=Ipv4Config(address="10.0.0.2/24", gateway="10.0.0.1"),
        rules=[parse_rule("allow tcp example.org:443"), *[parse_rule("refuse private")] * 60],
        default_action=Action.REFUSE,
        proxies=[
            ProxyConfig(name="office", kind=ProxyKind.HTTP, server=("10.0.0.9", 3128), user="me", password="word")
        ],
    )
    report.configuration(config, config.link)
    said = capsys.readouterr().err
    assert "sansnet: rule 1: allow tcp example.org:443\nsansnet: rule 2: refuse private\n" in said
    assert said.endswith(
        "sansnet: and 11 more rules\nsansnet: default: refuse\nsansnet: proxy office: http at 10.0.0.9:3128\n"
    )
    assert "word" not in said


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            PermissionError(errno.EPERM, "Operation not permitted"),
            "sansnet needs (Operation not permitted); if this is",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "/"), "sansnet needs (Permission denied: /); if this is"),
        (OSError(errno.ENOSYS, "Function not implemented"), "here (Function not implemented); use Linux 5.4 or newer,"),
    ],
)
def test_a_refused_system_call_has_a_remedy(error: OSError, sentence: str) -> None:
    assert sentence in report.reason(error)


def test_frames_without_room_in_the_queue_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    counters = NetemStatistics(overflowed=3)
    driver: Any = SimpleNamespace(**dict.fromkeys(report._COUNTERS, 0), impaired_up=counters, impaired_down=None)
    network: Any = SimpleNamespace(drops={}, last_drops={})
    report.statistics(network, driver)
    assert capsys.readouterr().err == (
        "sansnet: frames from the guest that were lost because the queue of the impairment had no room: 3\n"
    )
