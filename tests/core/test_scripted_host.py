"""The scripted host of the published kit: orders that concern the program."""

from __future__ import annotations

from errno import ECONNREFUSED
from typing import Any

import pytest

from sansnet_core import Action, Allow, DeliverDatagram, Endpoint, FailDatagram, Refuse, SocketId, UsageError
from sansnet_core.records import replace
from sansnet_core.testing import GATEWAY, Pair, ScriptedHost, make_config, packets


def test_it_keeps_the_datagrams_for_services() -> None:
    pair = Pair()
    service = pair.network.service_added(17, None, 53, pair.now)
    pair.guest.send(packets.udp(pair.guest.ipv4, 40000, GATEWAY, 53, b"question"))
    pair.settle()
    (delivery,) = pair.host.delivered
    expected = DeliverDatagram(
        service, Endpoint(pair.guest.ipv4, 40000), Endpoint(GATEWAY, 53), b"question", 0, 64, delivery.tos
    )
    assert delivery == expected


def test_it_keeps_the_failures_of_datagrams_of_services() -> None:
    pair = Pair()
    service = pair.network.service_added(17, None, 53, pair.now)
    guest, source = Endpoint(pair.guest.ipv4, 40000), Endpoint(GATEWAY, 53)
    pair.network.service_sent(service, guest, source, b"news", pair.now)
    quoted = packets.udp(*source, *guest, b"news").emit()
    pair.guest.send(packets.icmp(guest.address, source.address, 3, 3, bytes(4) + quoted))
    pair.settle()
    assert pair.host.failed == [FailDatagram(service, guest, source, ECONNREFUSED)]


def test_it_answers_questions() -> None:
    pair = Pair(replace(make_config(), default_action=Action.ASK))
    connection = pair.connect()
    pair.settle()
    (question,) = pair.host.questions.values()
    assert question.guest == Endpoint(*connection.local)
    pair.host.decide(question.socket, Refuse(111), pair.now)
    pair.settle()
    assert connection.refused


def test_wrong_use_of_a_scripted_host_is_named() -> None:
    pair = Pair()
    wrong: Any = "x"
    with pytest.raises(UsageError, match="script: 'x' is not a HostScript"):
        ScriptedHost(pair.network, wrong)
    with pytest.raises(AssertionError, match="there is no stream"):
        _ = pair.host.stream
    with pytest.raises(AssertionError, match="no question with the name 9 waits"):
        pair.host.decide(SocketId(9), Allow(), pair.now)
    with pytest.raises(AssertionError, match="no forward has the name 9"):
        pair.host.remove_forward(SocketId(9), pair.now)
