"""The scripted host of the published kit: orders that concern the program."""

from __future__ import annotations

from sansnet_core import Action, DeliverDatagram, Endpoint, Refuse
from sansnet_core.records import replace
from sansnet_core.testing import GATEWAY, Pair, make_config, packets


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


def test_it_answers_questions() -> None:
    pair = Pair(replace(make_config(), default_action=Action.ASK))
    connection = pair.connect()
    pair.settle()
    (question,) = pair.host.questions.values()
    assert question.guest == Endpoint(*connection.local)
    pair.host.decide(question.socket, Refuse(111), pair.now)
    pair.settle()
    assert connection.refused
