"""A mistake of the driver is refused at once, in one sentence, and nothing has changed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from math import inf, nan
from typing import Any, Final

import pytest

from sansnet_core import Endpoint, ExtendedError, Network, Prefix, SansnetError, SocketId, UsageError
from sansnet_core.testing import OUTSIDER, Pair, make_config

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

WITHOUT: Final = {
    "echo_received": "its source is only compared",
    "forward_removed": "a name that does not exist any more is ignored, as in all that follow",
    "service_removed": "",
    "stream_connected": "",
    "stream_ended": "",
    "stream_sent": "",
}
"""Inputs without a case, and why."""


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


def test_every_input_has_its_case() -> None:
    inputs = {
        name
        for name, method in inspect.getmembers(Network, inspect.isfunction)
        if not name.startswith("_") and "now" in inspect.signature(method).parameters
    }
    assert inputs == {*(name for name, _, _ in CALLS), *WITHOUT}


def test_frames_before_a_wrong_one_are_received() -> None:
    network = Network(make_config(), now=0.0, secret=bytes(16))
    with pytest.raises(UsageError, match="frames: None is not a frame"):
        network.receive_frames([bytes(60), WRONG], 0.0)
    assert network.statistics().frames_received == 2


def test_a_fault_of_the_core_is_not_taken_for_one_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(make_config(), now=0.0, secret=bytes(16))
    monkeypatch.setattr(network, "_frames", _Faulty())
    with pytest.raises(TypeError, match="a fault"):
        network.receive_frames([bytes(60)], 0.0)


class _Faulty:
    start = 0

    def receive(self, frame: bytes) -> None:
        raise TypeError("a fault")


def test_inputs_of_a_flow_take_addresses_in_any_form() -> None:
    pair = Pair()
    assert pair.network.stream_accepted(("198.51.100.7", 34567), "10.0.2.15", 80, pair.now) is not None
    assert pair.network.forward_added("2001:db8::15", 53, pair.now)
    assert pair.network.service_added(6, "192.0.2.0/24", 80, pair.now)
    with pytest.raises(UsageError):
        pair.network.service_added(6, Prefix("192.0.2.0/24"), 80, pair.now)
