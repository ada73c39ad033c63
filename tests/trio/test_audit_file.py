"""Files, pipes and sockets for whole lines."""

from __future__ import annotations

import errno
import json
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from sansnet_core import UsageError
from sansnet_trio.audit.file import AuditFile

LAST = b'{"kind":"full"}\n'


def last() -> bytes:
    return LAST


def line(number: int, size: int = 100) -> bytes:
    return json.dumps({"number": number, "rest": "x" * (size - 30)}).encode() + b"\n"


def appended(path: Path) -> BinaryIO:
    return open(path, "ab", buffering=0)


def entries(data: bytes) -> list[Any]:
    assert not data or data.endswith(b"\n")
    return [json.loads(one) for one in data.splitlines()]


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """No file of this process may become larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_lines_are_appended_to_what_a_file_has(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    path.write_bytes(line(1))
    file = AuditFile(appended(path))
    assert file.write([line(2), line(3)], last) == 0
    file.close()
    file.close()
    assert [entry["number"] for entry in entries(path.read_bytes())] == [1, 2, 3]


def test_a_line_that_an_earlier_process_left_unfinished_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    path.write_bytes(b'{"number": 1')
    file = AuditFile(appended(path))
    file.write([line(2)], last)
    file.close()
    assert path.read_bytes() == b'{"number": 1\n' + line(2)


def test_several_processes_may_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    first, second = AuditFile(appended(path)), AuditFile(appended(path))
    for number in range(0, 200, 2):
        first.write([line(number, 1000)], last)
        second.write([line(number + 1, 1000)], last)
    first.close()
    second.close()
    assert [entry["number"] for entry in entries(path.read_bytes())] == list(range(200))


def test_a_file_that_reaches_its_size_ends_with_a_line_that_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "audit"
    file = AuditFile(appended(path), max_size=5000)
    lost = sum(file.write([line(number)], last) for number in range(100))
    file.close()
    found = path.read_bytes().splitlines(keepends=True)
    assert len(path.read_bytes()) <= 5000
    assert found[-1] == LAST
    assert found.count(LAST) == 1
    assert lost == 100 - (len(found) - 1) > 0
    assert len(caplog.messages) == 1
    assert "the audit ends here" in caplog.messages[0]


def test_a_full_disk_is_reported_once_and_leaves_whole_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "audit"
    file = AuditFile(appended(path))
    with file_limit(2050):
        lost = sum(file.write([line(number)], last) for number in range(50))
    failed = file.failed
    assert failed
    assert len(caplog.messages) == 1
    assert os.strerror(errno.EFBIG) in caplog.messages[0]
    kept = entries(path.read_bytes())
    assert [entry["number"] for entry in kept] == list(range(50 - lost))
    assert file.write([line(99)], last) == 0  # there is room again
    failed = file.failed
    assert not failed
    file.close()
    assert entries(path.read_bytes())[-1]["number"] == 99
    assert len(caplog.messages) == 1


def pipe() -> tuple[int, BinaryIO]:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.set_blocking(reader, False)
    return reader, os.fdopen(writer, "wb", buffering=0)


def drain(reader: int) -> bytes:
    data = b""
    try:
        while piece := os.read(reader, 1 << 16):
            data += piece
    except BlockingIOError:
        pass
    return data


def test_the_reader_of_a_pipe_that_does_not_read_loses_whole_lines_only() -> None:
    reader, writer = pipe()
    file = AuditFile(writer)
    lost = sum(file.write([line(number, 1000)], last) for number in range(3000))
    assert 0 < lost < 3000
    data = drain(reader)
    while True:
        file.push()
        if not (more := drain(reader)):
            break
        data += more
    file.close()
    os.close(reader)
    numbers = [entry["number"] for entry in entries(data)]
    assert numbers == list(range(3000 - lost))


def test_a_pipe_without_a_reader_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = pipe()
    os.close(reader)
    file = AuditFile(writer)
    file.write([line(1)], last)
    file.write([line(2)], last)
    file.close()
    assert len(caplog.messages) == 1
    assert os.strerror(errno.EPIPE) in caplog.messages[0]


def test_what_waits_is_written_when_the_file_is_closed() -> None:
    import threading

    reader, writer = pipe()
    file = AuditFile(writer)
    assert sum(file.write([line(number, 1000)], last) for number in range(100)) == 0
    found: list[bytes] = []

    def read() -> None:
        os.set_blocking(reader, True)
        while piece := os.read(reader, 1 << 16):
            found.append(piece)

    thread = threading.Thread(target=read)
    thread.start()
    file.close()
    thread.join(5)
    os.close(reader)
    assert len(entries(b"".join(found))) == 100


def test_lines_that_still_wait_at_the_end_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = pipe()
    file = AuditFile(writer)
    assert file.write([line(number, 1000) for number in range(500)], last) == 0
    file.close()
    os.close(reader)
    assert len(caplog.messages) == 1
    assert "the reader does not read" in caplog.messages[0]


def test_a_socket_gets_lines_and_stays_blocking_for_others() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        file = AuditFile(cast(BinaryIO, os.fdopen(os.dup(ours.fileno()), "wb", buffering=0)))
        lost = sum(file.write([line(number, 1000)], last) for number in range(3000))
        assert lost > 0
        assert os.get_blocking(ours.fileno())
        assert json.loads(theirs.recv(1 << 20).partition(b"\n")[0])["number"] == 0
        theirs.close()
        file.close()


def test_a_file_without_descriptor_gets_lines() -> None:
    memory = BytesIO()
    AuditFile(memory).write([line(1)], last)
    assert entries(memory.getvalue())[0]["number"] == 1


def test_after_the_end_lines_are_lost(tmp_path: Path) -> None:
    file = AuditFile(appended(tmp_path / "audit"))
    file.close()
    file.push()
    assert file.write([line(1), line(2)], last) == 2


@pytest.mark.parametrize(
    ("arguments", "options"), [((StringIO(),), {}), (("audit",), {}), ((BytesIO(),), {"max_size": 0})]
)
def test_wrong_arguments_are_refused(arguments: Any, options: Any) -> None:
    with pytest.raises(UsageError, match=r"give "):
        AuditFile(*arguments, **options)
