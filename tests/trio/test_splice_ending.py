"""Spliced connections when sansnet ends: what is on its way, and how they are closed."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from tests.trio.fake import Bench
from tests.trio.test_splice_tcp import MEBIBYTE, Spliced, drain, drain_to_reset, refuse_pipes, reset, stall


@pytest.fixture
def spliced() -> Iterator[Spliced]:
    with Bench() as bench:
        made = Spliced(bench)
        with made.listener:
            yield made
        made.splices.close()


@pytest.mark.parametrize("inbound", [False, True])
def test_bytes_of_the_guest_that_are_not_read_are_undelivered(
    spliced: Spliced, monkeypatch: pytest.MonkeyPatch, inbound: bool
) -> None:
    near, far = spliced.pair(inbound=inbound)
    with near, far:
        with monkeypatch.context() as patch:
            refuse_pipes(patch)
            near.sendall(bytes(100))
            far.sendall(bytes(3))
            spliced.bench.wait(lambda: len(spliced.splices.waiting) == 2)
            assert spliced.splices.spliced().undelivered == (3 if inbound else 100)
        spliced.splices.waiting.handle_deadline(1.0)
        spliced.bench.quiet()
        assert spliced.splices.spliced().undelivered == 0
        assert (len(far.recv(200)), len(near.recv(200))) == (100, 3)


def test_bytes_in_a_pipe_are_undelivered(spliced: Spliced, monkeypatch: pytest.MonkeyPatch) -> None:
    os_splice = os.splice

    def fill(source: int, sink: int, size: int, *, flags: int) -> int:
        if size < MEBIBYTE:  # the pipe's bytes
            raise BlockingIOError
        return os_splice(source, sink, size, flags=flags)

    near, far = spliced.pair()
    with near, far:
        with monkeypatch.context() as patch:
            patch.setattr(os, "splice", fill)
            near.sendall(bytes(100))
            near.shutdown(socket.SHUT_WR)
            spliced.bench.wait(lambda: spliced.splices.spliced().undelivered == 100)
            spliced.bench.round()
            assert spliced.splices.spliced().undelivered == 100
        spliced.bench.quiet()
        assert spliced.splices.spliced().undelivered == 0
        assert drain(far) == bytes(100)


def test_bytes_before_the_other_end_is_connected_are_undelivered(spliced: Spliced) -> None:
    with socket.socket() as full:  # a listener whose backlog is full answers no SYN
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with socket.create_connection(full.getsockname()), spliced.join(full.getsockname()[1]) as near:
            near.sendall(bytes(100))
            near.shutdown(socket.SHUT_WR)
            spliced.bench.quiet()
            assert spliced.splices.spliced().undelivered == 100
            spliced.splices.close()
            drain_to_reset(near)


@pytest.mark.parametrize("inbound", [False, True])
def test_a_receiver_that_reads_after_the_end_gets_all(spliced: Spliced, inbound: bool) -> None:
    near, far = spliced.pair(inbound=inbound)
    guest, host = (far, near) if inbound else (near, far)
    with host:
        guest.setblocking(False)
        sent = guest.send(bytes(MEBIBYTE))
        guest.close()
        spliced.bench.wait(lambda: spliced.splices.spliced().undelivered == 0)
        spliced.splices.close()
        assert len(drain(host)) == sent


def test_a_fin_that_was_not_handled_yet_is_passed_on(spliced: Spliced) -> None:
    near, far = spliced.pair()
    with far:
        near.sendall(b"last words")
        spliced.bench.quiet()
        near.close()
        spliced.splices.close()
        assert drain(far) == b"last words"


def test_a_receiver_of_a_part_is_reset(spliced: Spliced) -> None:
    near, far = spliced.pair()
    with far:
        stall(spliced, near, bytes(64 * MEBIBYTE))
        near.close()
        assert spliced.splices.spliced().undelivered > 0
        spliced.splices.close()
        drain_to_reset(far)


def test_a_connection_that_has_not_ended_is_reset(spliced: Spliced) -> None:
    near, far = spliced.pair()
    with near, far:
        spliced.splices.close()
        drain_to_reset(near)
        drain_to_reset(far)


@pytest.mark.parametrize("waits", [False, True])
def test_an_answer_before_a_reset_arrives_although_the_request_is_not_taken(spliced: Spliced, waits: bool) -> None:
    """So a server refuses a large request: it does not read it all, so its close is a reset."""
    near, far = spliced.pair()
    with near:
        if waits:
            stall(spliced, near, bytes(64 * MEBIBYTE))
        else:
            near.sendall(b"a request")
        far.sendall(b"too large")
        reset(far)
        spliced.over()
        assert near.recv(100) == b"too large"
        drain_to_reset(near)


def test_data_of_a_sender_that_has_closed_arrive_although_it_answers_by_a_reset(spliced: Spliced) -> None:
    near, far = spliced.pair()
    with far:
        near.setblocking(False)
        sent = near.send(bytes(MEBIBYTE))
        near.close()
        spliced.bench.wait(lambda: spliced.splices.spliced().undelivered == 0)
        spliced.bench.quiet()
        far.sendall(b"a greeting")
        spliced.over()
        assert len(drain(far)) == sent


def test_closing_resets_all_connections_and_leaves_no_descriptor() -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    with Bench() as bench:
        made = Spliced(bench)
        with made.listener:
            near, far = made.pair()
            with near, far:
                stall(made, near, bytes(64 * MEBIBYTE))
                made.splices.close()
                bench.quiet()
                with pytest.raises(ConnectionResetError):
                    near.recv(1)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_bytes_of_the_guest_that_are_given_up_with_a_reset_are_counted(spliced: Spliced) -> None:
    near, far = spliced.pair()
    with near, far:
        stall(spliced, near, bytes(64 * MEBIBYTE))
        connections, undelivered, lost = spliced.splices.spliced()
        assert (connections, lost) == (1, 0)
        assert undelivered > 0
        reset(far)
        spliced.bench.wait(lambda: not len(spliced.splices))
        assert spliced.splices.spliced() == (0, 0, undelivered)
