"""A mistake of the driver is refused at once, in one sentence, and nothing has changed."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from math import inf, nan
from typing import Any, Final

import pytest

from sansnet_core import (
    COMPILED,
    Action,
    Allow,
    ConfigError,
    DecideFlow,
    Endpoint,
    ExtendedError,
    Network,
    OpenDatagram,
    OpenEcho,
    OpenStream,
    Prefix,
    Rule,
    SansnetError,
    SocketId,
    UsageError,
)
from sansnet_core.proto.frames import Frames
from sansnet_core.proto.udp.handler import Udp
from sansnet_core.records import replace
from sansnet_core.testing import OUTSIDER, SERVER, SERVER6, GuestStack, Pair, make_config
from sansnet_core.testing.packets import IPV4, SYN, Segment, echo_request, ethernet, udp

WRONG: Any = None
BAD: Final = Endpoint._make((b"abc", 80))
"""An endpoint that was made without a check."""
FAILURE: Final = ExtendedError(113, 1, 0, 0, 0, None)
object.__setattr__(FAILURE, "offender", b"abc")
ONE: Final = SocketId(1)

MAKING: Final[list[tuple[Callable[[], object], str]]] = [
    (lambda: Network(WRONG, now=0.0, secret=bytes(16)), "config: None is not a NetworkConfig"),
    (lambda: Network(make_config(), now=WRONG, secret=bytes(16)), "now: None is not a number of seconds, such as time"),
    (lambda: Network(make_config(), now=nan, secret=bytes(16)), "now: nan is not a finite number"),
    (lambda: Network(make_config(), now=inf, secret=bytes(16)), "now: inf is not a finite number"),
    (lambda: Network(make_config(), now=0.0, secret=WRONG), r"secret: None is not bytes; give os.urandom\(32\)"),
    (lambda: Network(make_config(), now=0.0, secret="s" * 32), "secret: 's+' is not bytes"),  # type: ignore[arg-type]
    (lambda: Network(make_config(), now=0.0, secret=b"short"), "secret: 5 bytes are too few; give at least 16"),
]

CALLS: Final[list[tuple[str, tuple[Any, ...], str]]] = [
    ("receive_frames", (b"abc", 1.0), r"frames: b'abc' is not a sequence of frames; give \[frame\]"),
    ("receive_frames", ("abc", 1.0), "frames: 'abc' is not a sequence of frames"),
    ("receive_frames", (None, 1.0), "frames: None is not a sequence of frames"),
    ("receive_frames", (5, 1.0), "frames: 5 is not a sequence of frames"),
    ("receive_frames", ([5], 1.0), "frames: 5 is not a frame; give bytes, or a memoryview of them"),
    ("receive_frames", ([None], 1.0), "frames: None is not a frame"),
    ("receive_frames", (["text"], 1.0), "frames: 'text' is not a frame"),
    ("receive_frames", (["longer than a header"], 1.0), "frames: 'longer than a header' is not a frame"),
    ("receive_frames", ([bytearray(60)], 1.0), "frames: bytearray.* is not a frame"),
    ("receive_frames", ([memoryview(bytearray(60)).toreadonly()], 1.0), "frames: <memory.* is not a frame"),
    ("receive_frames", ([[2] * 60], 1.0), r"frames: \[2, .* is not a frame"),
    ("receive_frames", ([], None), "now: None is not a number of seconds"),
    ("receive_frames", ([], nan), "now: nan is not a number of seconds"),
    ("receive_frames", ([], -1.0), "now: 1.0 seconds before the time of the last input"),
    ("handle_deadline", ("soon",), "now: 'soon' is not a number of seconds"),
    ("guest_attached", (None,), "now: None is not a number of seconds"),
    ("reconfigure", (None, 1.0), "config: None is not a NetworkConfig"),
    ("stream_accepted", (BAD, None, 80, 1.0), "remote: b'abc' has 3 bytes"),
    ("stream_accepted", (("198.51.100.7", 70000), None, 80, 1.0), "remote: 70000 is not a port"),
    ("stream_accepted", ("198.51.100.7", None, 80, 1.0), "remote: '198.51.100.7' is not an endpoint"),
    ("stream_accepted", (None, None, 80, 1.0), "remote: None is not an endpoint"),
    ("stream_accepted", (OUTSIDER, b"abc", 80, 1.0), "guest_address: b'abc' has 3 bytes"),
    ("stream_accepted", (OUTSIDER, 5, 80, 1.0), "guest_address: 5 is not an IP address"),
    ("stream_accepted", (OUTSIDER, None, 65536, 1.0), "guest_port: 65536 is not a port; give an integer between 1"),
    ("stream_accepted", (OUTSIDER, None, True, 1.0), "guest_port: True is not a port"),
    ("stream_accepted", (OUTSIDER, None, None, 1.0), "guest_port: None is not a port"),
    ("stream_opened", (BAD, None, 80, 1.0), "source: b'abc' has 3 bytes"),
    ("stream_opened", (None, "guest", 80, 1.0), "guest_address: 'guest' is not an IP address"),
    ("stream_opened", (None, None, 0, 1.0), "guest_port: 0 is not a port"),
    ("stream_opened", (None, None, 65536, 1.0), "guest_port: 65536 is not a port"),
    ("stream_opened", (Endpoint._make((SERVER, -1)), None, 80, 1.0), "source: -1 is not a port"),
    ("stream_received", (ONE, "text", 1.0), r"data: 'text' is not bytes; give bytes\(...\) of it"),
    ("stream_received", (ONE, bytearray(3), 1.0), r"data: bytearray.* is not bytes"),
    ("stream_failed", (ONE, 111, 111, 1.0), "error: 111 is not an ExtendedError or None"),
    ("stream_failed", (ONE, 113, FAILURE, 1.0), "error.offender: b'abc' has 3 bytes"),
    ("forward_added", (b"abc", 80, 1.0), "guest_address: b'abc' has 3 bytes"),
    ("forward_added", (None, -1, 1.0), "guest_port: -1 is not a port"),
    ("forward_added", (None, 80, 1.0, (6,)), r"outgoing: \(6,\) are not sizes of addresses; give 4 and 16"),
    ("forward_added", (None, 80, 1.0, 4), "outgoing: 4 are not sizes of addresses"),
    ("datagram_received", (ONE, BAD, b"", 0, 64, 0, 1.0), "source: b'abc' has 3 bytes"),
    ("datagram_received", (ONE, ("198.51.100.7", 5), b"", 0, 64, 0, 1.0), r"source: .* is not an endpoint"),
    ("datagram_received", (ONE, OUTSIDER, b"", 0, 64, 0, 1.0, b"abc"), "local: b'abc' has 3 bytes"),
    ("datagram_failed", (ONE, OUTSIDER, 113, b"", 1.0), "error: 113 is not an ExtendedError"),
    ("datagram_failed", (ONE, OUTSIDER, FAILURE, b"", 1.0), "error.offender: b'abc' has 3 bytes"),
    ("echo_received", (ONE, SERVER, 1, bytes(65508), 64, 0, 1.0), "data: an echo reply cannot carry 65508 bytes; give"),
    ("echo_failed", (ONE, 1, FAILURE, b"", 1.0), "error.offender: b'abc' has 3 bytes"),
    ("service_added", (1, None, 80, 1.0), r"protocol: 1 is neither 6 \(TCP\) nor 17 \(UDP\)"),
    ("service_added", ("tcp", None, 80, 1.0), "protocol: 'tcp' is neither"),
    ("service_added", (6, "10.0.0.1/8", 80, 1.0), "prefix: '10.0.0.1/8' has bits beyond its length; give '10.0.0.0/8'"),
    ("service_added", (6, None, 70000, 1.0), "port: 70000 is not a port"),
    ("service_sent", (ONE, BAD, OUTSIDER, b"", 1.0), "guest: b'abc' has 3 bytes"),
    ("service_sent", (ONE, OUTSIDER, BAD, b"", 1.0), "source: b'abc' has 3 bytes"),
    ("service_sent", (ONE, None, OUTSIDER, b"", 1.0), "guest: None is not an endpoint"),
    ("service_sent", (ONE, OUTSIDER, OUTSIDER, "text", 1.0), "data: 'text' is not bytes"),
    ("flow_decided", (ONE, True, 1.0), r"verdict: True is not one; give Allow\(\)"),
]  # fmt: skip

RIGHT: Final[dict[str, tuple[Any, ...]]] = {
    "stream_accepted": (OUTSIDER, None, 81),
    "stream_connected": ("tcp",),
    "stream_received": ("tcp", b"data"),
    "stream_sent": ("tcp", 0),
    "stream_ended": ("tcp",),
    "stream_failed": ("tcp", 104, None),
    "forward_added": (None, 54),
    "forward_removed": ("forward",),
    "datagram_received": ("udp", Endpoint(SERVER, 53), b"data", 0, 64, 0),
    "datagram_failed": ("udp", Endpoint(SERVER, 53), ExtendedError(113, 1, 0, 0, 0, None), b"data"),
    "echo_received": ("echo", SERVER, 1, b"data", 64, 0),
    "echo_failed": ("echo", 1, ExtendedError(113, 1, 0, 0, 0, None), b"data"),
    "service_added": (6, None, 80),
    "service_removed": ("service",),
    "service_sent": ("service", Endpoint("10.0.2.15", 7), Endpoint("10.0.2.2", 99), b"data"),
    "stream_opened": (None, None, 80),
    "flow_decided": ("question", Allow()),
    "receive_budget": ("tcp",),
    "stream_endpoints": ("tcp",),
    "stream_unacknowledged": ("tcp",),
    "program_addresses": (None, None),
}
"""Right arguments of all methods that take more than frames or the time; a text stands for the name of that socket."""

OTHERS: Final[list[Any]] = [None, True, "text", b"abc", -1, 1 << 40, 1.5, nan, [], [1], {}, (1,), BAD, bytearray(4), 3j]
OTHERS_THAT_MAY_BE: Final[dict[str, dict[int, list[Any]]]] = {
    "stream_accepted": {1: [None]},
    "stream_received": {1: [b"abc"]},
    "stream_failed": {1: [1 << 40], 2: [None]},
    "forward_added": {0: [None]},
    "datagram_received": {2: [b"abc"]},
    "datagram_failed": {3: [b"abc"]},
    "echo_received": {3: [b"abc"]},
    "echo_failed": {3: [b"abc"]},
    "service_added": {1: [None], 2: [None]},
    "service_sent": {3: [b"abc"]},
    "stream_opened": {0: [None], 1: [None]},
    "program_addresses": {0: [None], 1: [None]},
}
"""The few of these values that an argument may have, by its place."""
NAMES_OF_NOTHING: Final = (-1, 1 << 40)
"""They may be those of sockets that were closed, so they are ignored."""


@pytest.mark.parametrize(("make", "message"), MAKING)
def test_a_network_is_not_made_of_anything_else(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize(("name", "arguments", "message"), CALLS)
def test_a_wrong_argument_is_refused_and_changes_nothing(name: str, arguments: tuple[Any, ...], message: str) -> None:
    network = Network(make_config(), now=0.0, secret=bytes(16))
    forward = network.forward_added(None, 53, 0.0)
    assert forward == ONE
    network.take_orders()
    before = network.statistics()
    with pytest.raises(SansnetError, match=message) as refused:
        getattr(network, name)(*arguments)
    assert "\n" not in str(refused.value)
    assert (network.take_orders(), network.take_frames(), network.flows()) == ([], [], [])
    if name != "receive_frames":
        assert network.statistics() == before


def _busy() -> tuple[Network, dict[str, SocketId]]:
    """A network with one of everything, and the names by kind."""
    config = replace(make_config(), rules=(Rule(action=Action.ASK, ports=(99,)),))
    network, guest = Network(config, now=0.0, secret=bytes(16)), GuestStack()
    names = {"forward": network.forward_added(None, 53, 0.0), "service": network.service_added(17, None, 99, 0.0)}
    packets = (
        udp(guest.ipv4, 5000, SERVER, 53, b"question"),
        echo_request(guest.ipv4, SERVER, 7, 1, b"ping"),
        Segment(guest.ipv4, 4000, SERVER, 80, 1000, 0, SYN, 65535, mss=1460).ip(),
        udp(guest.ipv4, 5000, SERVER, 99, b"question"),
    )
    frames = [ethernet(guest.gateway_mac, guest.mac, IPV4, packet.emit()) for packet in packets]
    network.receive_frames(frames, 0.0)
    kinds = {OpenDatagram: "udp", OpenEcho: "echo", OpenStream: "tcp", DecideFlow: "question"}
    names |= {kinds[type(order)]: order.socket for order in network.take_orders() if type(order) in kinds}
    network.stream_connected(names["tcp"], 0.0)
    while network.take_orders() or network.take_frames():
        pass
    return network, names


@pytest.mark.parametrize(
    ("name", "place"), [(name, place) for name, given in RIGHT.items() for place in range(len(given))]
)
def test_no_argument_can_be_of_another_kind(name: str, place: int) -> None:
    parameter = list(inspect.signature(getattr(Network, name)).parameters)[1 + place]
    right = RIGHT[name]
    timed = "now" in inspect.signature(getattr(Network, name)).parameters
    for other in OTHERS:
        if any(other is one or other == one for one in OTHERS_THAT_MAY_BE.get(name, {}).get(place, ())):
            continue
        if parameter == "socket" and other in NAMES_OF_NOTHING:
            continue
        if COMPILED and name == "datagram_received" and other is True and parameter != "socket":
            continue  # compiled code takes it for 1, and a flow that is under way has no other check
        network, names = _busy()
        arguments = [names[one] if isinstance(one, str) else one for one in right]
        arguments[place] = other
        before = pickle.dumps(network)
        with pytest.raises(SansnetError, match=f"^{parameter}(: |\\.)") as refused:
            getattr(network, name)(*arguments, *([0.0] if timed else []))
        assert "\n" not in str(refused.value)
        assert pickle.dumps(network) == before


def test_a_time_without_an_end_is_none() -> None:
    network = Network(make_config(), now=0.0, secret=bytes(16))
    with pytest.raises(UsageError, match="now: inf is not a number of seconds"):
        network.handle_deadline(inf)
    network.handle_deadline(1.0)


def test_a_service_at_a_place_that_is_taken_uses_up_no_name() -> None:
    network = Network(make_config(), now=0.0, secret=bytes(16))
    first = network.service_added(6, None, 80, 0.0)
    with pytest.raises(UsageError, match="there is a service at this place"):
        network.service_added(6, None, 80, 0.0)
    assert network.service_added(6, None, 81, 0.0) == first + 1


@pytest.mark.parametrize("kind", ["udp", "forward"])
def test_a_datagram_that_no_packet_can_carry_opens_nothing(kind: str) -> None:
    network, names = _busy()
    with pytest.raises(UsageError, match="data: a datagram cannot carry 65508 bytes; give at most 65507"):
        network.datagram_received(names[kind], Endpoint(SERVER, 53), bytes(65508), 0, 64, 0, 0.0)
    assert [flow.received for flow in network.flows()] == [0] * 4


@pytest.mark.parametrize("data", [None, "text", 5, [1]])
def test_data_of_another_kind_are_refused_in_a_flow_that_has_had_right_ones(data: Any) -> None:
    """They are checked once they cannot be used: the others cost no check."""
    network, names = _busy()
    network.datagram_received(names["udp"], Endpoint(SERVER, 53), b"answer", 0, 64, 0, 0.0)
    network.take_frames()
    with pytest.raises(UsageError, match=r"^data: "):
        network.datagram_received(names["udp"], Endpoint(SERVER, 53), data, 0, 64, 0, 0.0)
    assert network.take_frames() == []


@pytest.mark.parametrize(("socket", "other"), [(SERVER, SERVER6), (SERVER6, SERVER)])
def test_a_datagram_has_the_family_of_its_socket(socket: bytes, other: bytes) -> None:
    pair = Pair()
    pair.guest.send(udp(pair.guest.address(len(socket)), 1000, socket, 53, b"question"))
    pair.settle()
    (order,) = pair.host.datagrams
    with pytest.raises(UsageError, match=r"is of another family than .*, to which the socket 1 sends"):
        pair.network.datagram_received(order.socket, Endpoint(other, 53), b"answer", 0, 64, 0, pair.now)
    assert pair.network.take_frames() == []


def test_nothing_is_read_after_the_end_of_a_stream() -> None:
    network, names = _busy()
    network.stream_ended(names["tcp"], 0.0)
    with pytest.raises(
        UsageError, match=r"^stream_received: the end of this stream was reported already; read nothing after it$"
    ):
        network.stream_received(names["tcp"], b"data", 0.0)


@pytest.mark.parametrize("field", ["errno", "origin", "type", "code", "info", "ttl"])
@pytest.mark.parametrize("value", [None, "text", -1, 1 << 32, 1.0, True])
def test_an_extended_error_has_numbers(field: str, value: Any) -> None:
    fields: dict[str, Any] = {"errno": 113, "origin": 2, "type": 3, "code": 1, "info": 0, "offender": None}
    with pytest.raises(ConfigError, match=f"^{field}: .* is not a number; give an integer from 0 to"):
        ExtendedError(**fields | {field: value})


def test_an_endpoint_that_was_not_checked_has_a_text_for_errors() -> None:
    assert repr(BAD) == "Endpoint(b'abc', 80)"
    assert repr(Endpoint._make((WRONG, "text"))) == "Endpoint(None, 'text')"


@pytest.mark.parametrize("port", [80, 99])
def test_a_verdict_sends_nothing_to_port_0(port: int) -> None:
    network, guest = Network(replace(make_config(), default_action=Action.ASK), now=0.0, secret=bytes(16)), GuestStack()
    packets = (
        udp(guest.ipv4, 5000, SERVER, port, b"question"),
        Segment(guest.ipv4, 4000, SERVER, port, 1000, 0, SYN, 65535, mss=1460).ip(),
        echo_request(guest.ipv4, SERVER, 7, 1, b"ping"),
    )
    network.receive_frames([ethernet(guest.gateway_mac, guest.mac, IPV4, each.emit()) for each in packets], 0.0)
    *with_ports, ping = network.take_orders()
    for question in with_ports:
        with pytest.raises(UsageError, match=r"verdict: 192.0.2.1:0 has port 0, which only pings can go to"):
            network.flow_decided(question.socket, Allow(Endpoint("192.0.2.1", 0)), 0.0)
        assert network.take_orders() == []
        network.flow_decided(question.socket, Allow(), 0.0)
        assert network.take_orders()
    network.flow_decided(ping.socket, Allow(Endpoint("192.0.2.1", 0)), 0.0)
    assert network.take_orders()


def test_every_input_has_its_case() -> None:
    inputs = {
        name
        for name, method in inspect.getmembers(Network, inspect.isfunction)
        if not name.startswith("_") and "now" in inspect.signature(method).parameters
    }
    assert inputs <= {*(name for name, _, _ in CALLS), *RIGHT}


def test_frames_before_a_wrong_one_are_received() -> None:
    network = Network(make_config(), now=0.0, secret=bytes(16))
    with pytest.raises(UsageError, match="frames: None is not a frame"):
        network.receive_frames([bytes(60), WRONG], 0.0)
    assert network.statistics().frames_received == 2


def test_a_fault_of_the_core_is_not_taken_for_one_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(make_config(), now=0.0, secret=bytes(16))
    monkeypatch.setattr(network._protocols, "frames", _Faulty(network._context, {}))
    with pytest.raises(TypeError, match="a fault"):
        network.receive_frames([bytes(60)], 0.0)


@pytest.mark.interpreted
def test_a_fault_with_a_datagram_is_not_taken_for_a_wrong_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    network, names = _busy()
    monkeypatch.setattr(Udp, "_to_guest", lambda *_: int("a fault", WRONG))
    with pytest.raises(TypeError, match="NoneType"):
        network.datagram_received(names["udp"], Endpoint(SERVER, 53), b"answer", 0, 64, 0, 0.0)


class _Faulty(Frames):
    def receive(self, frame: Any) -> None:
        raise TypeError("a fault")


def test_inputs_of_a_flow_take_addresses_in_any_form() -> None:
    pair = Pair()
    assert pair.network.stream_accepted(("198.51.100.7", 34567), "10.0.2.15", 80, pair.now) is not None
    assert pair.network.forward_added("2001:db8::15", 53, pair.now)
    assert pair.network.service_added(6, "192.0.2.0/24", 80, pair.now)
    with pytest.raises(UsageError):
        pair.network.service_added(6, Prefix("192.0.2.0/24"), 80, pair.now)
