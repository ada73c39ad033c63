"""Any sequence of what guests, hosts, programs and time can do, with limits from tiny to default, keeps these:

- nothing raises;
- each order is legal in the state of its socket, by an independent model of the host's sockets;
- a stream's bytes arrive unaltered and in order, at the host and at the guest;
- nothing is acknowledged that was not sent;
- each frame is well-formed, and within the link and its MTU;
- when the guest is silent, the host reads and time passes, no flow, socket, question or byte is left.
"""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sansnet_core.policy import Action, Check, NameMode, ProxyKind
from sansnet_core.testing import GuestStack
from sansnet_core.testing.operations import OPERATIONS, Operation, Setting, decode, encode, run, steps
from sansnet_core.testing.operations.domains import ANY_BYTES, domains
from sansnet_core.testing.packets import RST
from sansnet_core.testing.strategies import configs, frames, sequences
from sansnet_core.testing.strategies import settings as any_settings
from tests.fuzz import corpus

TCP_OPERATIONS: Final = (
    steps.GuestSendsSegment, steps.HostSends, steps.HostTakes, steps.GuestRepeats, steps.OutsiderConnects,
    steps.GuestTransfers, steps.CableChanges, steps.TimePasses, steps.GuestSends, steps.GuestConnects,
    steps.OutputsWait, steps.HostEnds,
)  # fmt: skip
_DATAGRAMS: Final = (
    steps.GuestSendsDatagram, steps.HostSendsDatagram, steps.HostFailsDatagram, steps.GuestPings, steps.TimePasses,
    steps.ForwardBegins, steps.GuestReports, steps.Reconfiguration,
)  # fmt: skip
_NAMES: Final = (
    steps.GuestAsks, steps.HostAnswersName, steps.HostReplies, steps.GuestConnects, steps.GuestSends,
    steps.GuestSendsDatagram, steps.GuestPings, steps.GuestTransfers, steps.ProgramDecides, steps.Reconfiguration,
    steps.TimePasses,
)  # fmt: skip
_ASKED: Final = ("a.example.org", "one.example.net", "proxied.example.com", "asked.example.com")
_BY_NAME: Final = ("leased", "leased2", "leased6", "server", "proxied")
_SOURCES: Final = ("asked", "asked", "asked", "other port", "outsider")
_REMOTES: Final = ("server", "server6", "sum", "sum6", "alias", "gateway6")
_SIZES: Final = (100, 100, 0, 1472, 5000)
_FRAMES = st.sampled_from(sorted(corpus.frames().values()))


@pytest.mark.slow
@settings(max_examples=400)
@given(setting=any_settings(), operations=sequences(_FRAMES))
def test_any_sequence_keeps_all_invariants(setting: Setting, operations: list[Operation]) -> None:
    run(setting, operations)


@pytest.mark.slow
@settings(max_examples=300)
@given(
    setting=any_settings(
        limits=["small", "two", "few inbound", "default"],
        link=["ethernet", "offload", "largest"],
        action=[Action.ALLOW],
        names=[None],
        proxy=[None],
        check=[Check.NONE],
        connects=[0],
    ),
    operations=sequences(_FRAMES, TCP_OPERATIONS, 100),
)
def test_connections_of_the_same_ports_keep_all_invariants(setting: Setting, operations: list[Operation]) -> None:
    run(setting, operations)


@pytest.mark.slow
@settings(max_examples=300)
@given(
    setting=any_settings(action=[Action.ALLOW], names=[None], proxy=[None], check=[Check.NONE]),
    operations=sequences(_FRAMES, _DATAGRAMS, source=_SOURCES, remote=_REMOTES, size=_SIZES),
)
def test_datagrams_keep_all_invariants(setting: Setting, operations: list[Operation]) -> None:
    run(setting, operations)


@pytest.mark.slow
@settings(max_examples=300)
@given(
    setting=any_settings(names=tuple(NameMode), connects=[0, 0, None]),
    operations=sequences(
        _FRAMES, _NAMES, name=_ASKED, remote=_BY_NAME, server=("resolver", "resolver6"), pick=range(3)
    ),
)
def test_names_and_proxies_keep_all_invariants(setting: Setting, operations: list[Operation]) -> None:
    run(setting, operations)


@pytest.mark.slow
@settings(max_examples=200)
@given(data=st.data())
def test_any_sequence_with_any_configuration_and_any_frames(data: st.DataObject) -> None:
    config = data.draw(configs(guest_mac=GuestStack().mac))
    run(config, data.draw(sequences(frames(config), [*OPERATIONS, *[steps.GuestSendsFrame] * 10])))


@pytest.mark.slow
@settings(max_examples=500)
@given(program=st.binary(max_size=400))
def test_any_bytes_are_a_program(program: bytes) -> None:
    setting, operations = decode(program)
    run(setting, operations)


@given(setting=any_settings(), operations=sequences(_FRAMES, most=10))
@settings(max_examples=50)
def test_a_program_holds_all_operations(setting: Setting, operations: list[Operation]) -> None:
    assert decode(encode(setting, operations)) == (setting, operations)


def test_every_kind_of_operation_can_be_done_to_a_new_network() -> None:
    for kind in OPERATIONS:
        run(Setting(), [kind()] * 2)


_BUSY: Final = (
    steps.ServiceBegins(protocol=17), steps.ForwardBegins(port=8001), steps.GuestConnects(remote="proxied"),
    steps.GuestSends(), steps.GuestConnects(port=40001), steps.GuestConnects(port=40002),
    steps.GuestSendsSegment(port=40002, flags=RST), steps.GuestSendsDatagram(remote="virtual", remote_port=53),
    steps.GuestSendsDatagram(port=40001), steps.GuestSendsDatagram(remote="asked"), steps.GuestPings(),
    steps.GuestAsks(server="resolver"),
)  # fmt: skip
"""A connection through a proxy, an open and a closed one, datagrams, a ping, and questions."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", OPERATIONS)
def test_every_value_of_an_operation_can_be_used_while_all_is_under_way(kind: type[Operation]) -> None:
    setting = Setting(names=NameMode.OWN, proxy=ProxyKind.SOCKS5, connects=0)
    for name, values in domains(kind).items():
        for value in dict.fromkeys([b"", bytes(60)] if values is ANY_BYTES else values):
            run(setting, [*_BUSY, kind(**{name: value})])
