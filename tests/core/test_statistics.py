"""Counters, as text."""

from __future__ import annotations

from sansnet_core import Dropped, Endpoint, NetworkStatistics, Reason


def test_counters_read_well() -> None:
    dropped = Dropped(6, Endpoint("10.0.2.15", 40000), Endpoint("127.0.0.1", 53))
    statistics = NetworkStatistics(
        frames_received=10,
        frames_sent=7,
        flows={"tcp_flows": 2, "udp_flows": 0},
        drops={Reason.ARP_MALFORMED: 1, Reason.IP_DESTINATION: 3},
        tcp_held=65536,
        ignored=4,
        tcp_lost=7,
        last_drops={Reason.IP_DESTINATION: (dropped,)},
    )
    assert str(statistics).splitlines() == [
        "frames: 10 from the guest, 7 to the guest, 4 ignored",
        "tcp flows: 2",
        "udp flows: 0",
        "tcp bytes held: 65536",
        "tcp bytes lost: 7",
        f"dropped: 3: {Reason.IP_DESTINATION.value}; last: tcp 10.0.2.15:40000 to 127.0.0.1:53",
        f"dropped: 1: {Reason.ARP_MALFORMED.value}",
    ]
