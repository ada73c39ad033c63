"""Files of recordings: their bounds, their rights, and their failures."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from sansnet_core import UsageError
from sansnet_trio.recording.file import RecordingFile

SIZE: Final = RecordingFile.MIN_SIZE
PART: Final = SIZE // 2
NOBODY: Final = 65534


def beginning(data: bytes = b"begin") -> Callable[[Callable[[bytes], object]], object]:
    return lambda write: write(data)


def parts(path: Path) -> tuple[bytes, bytes]:
    """The contents of the file, and of the file with the part before."""
    before = Path(f"{path}.1")
    return path.read_bytes(), before.read_bytes() if before.exists() else b""


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "net.rec"
    with closing(RecordingFile(path, size=SIZE)) as file:
        for _ in range(2):
            file.begin(beginning())

    for each in (path, Path(f"{path}.1")):
        assert stat.S_IMODE(each.stat().st_mode) == 0o600


def test_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "net.rec").symlink_to(victim)
    with pytest.raises(OSError, match="does not follow symbolic links"):
        RecordingFile(tmp_path / "net.rec")
    (tmp_path / "other.rec.1").symlink_to(victim)
    with closing(RecordingFile(tmp_path / "other.rec", size=SIZE)) as file:
        for _ in range(2):
            file.begin(beginning())

    assert victim.read_bytes() == b"precious"


def test_a_directory_gets_a_new_file(tmp_path: Path) -> None:
    with closing(RecordingFile(tmp_path)) as file:
        file.begin(beginning())

    assert [each.name for each in tmp_path.iterdir()] == [Path(file.path).name]
    assert Path(file.path).suffix == ".rec"
    assert str(os.getpid()) in Path(file.path).name


def test_a_relative_path_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(RecordingFile("net.rec", size=SIZE)) as file:
        file.begin(beginning(b"one"))
        monkeypatch.chdir("/")
        file.begin(beginning(b"two"))

    assert parts(tmp_path / "net.rec") == (b"two", b"one")


def test_an_old_recording_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "net.rec"
    path.write_bytes(b"old")
    with closing(RecordingFile(path)) as file:
        file.begin(beginning())

    assert parts(path) == (b"begin", b"")


def test_the_part_before_of_an_old_recording_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "net.rec"
    for name in ("net.rec", "net.rec.1"):
        (tmp_path / name).write_bytes(b"old")
    with closing(RecordingFile(path)) as file:
        file.begin(beginning())

    assert [each.name for each in tmp_path.iterdir()] == ["net.rec"]


def test_without_a_network_an_old_recording_stays(tmp_path: Path) -> None:
    path = tmp_path / "net.rec"
    path.write_bytes(b"old")
    (tmp_path / "net.rec.1").write_bytes(b"older")
    RecordingFile(path).close()

    assert parts(path) == (b"old", b"older")


@pytest.mark.parametrize("name", ["", "net.rec"])
def test_without_a_network_no_file_is_left(tmp_path: Path, name: str) -> None:
    RecordingFile(tmp_path / name).close()

    assert list(tmp_path.iterdir()) == []


def test_a_state_that_cannot_be_saved_still_ends_the_old_recording(tmp_path: Path) -> None:
    path = tmp_path / "net.rec"
    path.write_bytes(b"old")
    with closing(RecordingFile(path)) as file:
        file.begin(lambda write: None)
        file.begin(beginning())

    assert parts(path) == (b"begin", b"")


def test_a_second_process_cannot_destroy_a_recording(tmp_path: Path) -> None:
    path = tmp_path / "net.rec"
    with closing(RecordingFile(path, size=SIZE)) as file:
        file.begin(beginning())
        for _ in range(2):  # also after the file has changed
            with pytest.raises(OSError, match="another process records to it") as caught:
                RecordingFile(path)
            assert caught.value.errno == errno.EBUSY
            file.begin(beginning(b"next"))
    RecordingFile(path).close()


def test_a_full_file_asks_once_for_a_new_beginning(tmp_path: Path) -> None:
    path = tmp_path / "net.rec"
    asked = 0

    def full() -> None:
        nonlocal asked
        asked += 1

    with closing(RecordingFile(path, size=SIZE)) as file:
        file.on_full = full
        file.begin(beginning(b"first"))
        for _ in range(3):
            file.write(bytes(PART))
            assert asked == 1
        file.begin(beginning(b"second"))
        file.write(b"more")

    now, before = parts(path)
    assert asked == 1
    assert now == b"secondmore"
    assert before == b"first" + bytes(3 * PART)


def test_both_files_stay_within_the_size(tmp_path: Path) -> None:
    path = tmp_path / "net.rec"
    with closing(RecordingFile(path, size=SIZE)) as file:
        file.on_full = lambda: wanted.append(1)
        wanted: list[int] = []
        file.begin(beginning())
        for _ in range(1000):
            file.write(bytes(10_000))
            if wanted:
                wanted.clear()
                file.begin(beginning())
            assert sum(map(len, parts(path))) <= SIZE + 2 * 10_000

    assert len(list(tmp_path.iterdir())) == 2


def test_a_beginning_larger_than_the_file_leaves_room_for_inputs(tmp_path: Path) -> None:
    """Otherwise each beginning would ask for another one, and nothing else would be recorded."""
    path = tmp_path / "net.rec"
    asked: list[int] = []
    with closing(RecordingFile(path, size=SIZE)) as file:
        file.on_full = lambda: asked.append(1)
        file.begin(beginning(bytes(3 * PART)))
        file.write(bytes(1000))
        assert not asked
        file.write(bytes(PART))
        assert asked == [1]


def test_a_file_that_was_moved_away_stays_whole(tmp_path: Path) -> None:
    path = tmp_path / "net.rec"
    with closing(RecordingFile(path, size=SIZE)) as file:
        file.begin(beginning(b"first"))
        path.rename(tmp_path / "kept")
        file.begin(beginning(b"second"))

    assert (tmp_path / "kept").read_bytes() == b"first"
    assert parts(path) == (b"second", b"")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_process_without_rights_in_the_directory_begins_the_same_file_again(tmp_path: Path) -> None:
    path = tmp_path / "net.rec"
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        status = 1
        with contextlib.suppress(BaseException):
            file = RecordingFile(path, size=SIZE)
            file.begin(beginning(b"first"))
            os.setuid(NOBODY)
            file.begin(beginning(b"second"))
            file.write(b" part")
            file.close()
            status = int(file.failed)
        os._exit(status)
    os.close(writer)
    os.close(reader)

    assert os.waitpid(pid, 0)[1] == 0
    assert parts(path) == (b"second part", b"")
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_ends_the_recording_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A limit on the size of files stands for the full disk. The parts that were written stay."""
    path = tmp_path / "net.rec"
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    with closing(RecordingFile(path)) as file, caplog.at_level(logging.WARNING):
        file.begin(beginning())
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old[1]))
        try:
            for _ in range(4):
                file.write(b"x" * 300)
                file.write(b"y" * 300)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
        assert file.failed
        file.begin(beginning())

    assert path.read_bytes() == b"begin" + b"x" * 300 + b"y" * 300 + b"x" * 300
    assert [record.getMessage() for record in caplog.records] == [
        "the recording ends here (File too large); make room for it, or record to another file"
    ]


def test_a_device_that_is_full_ends_the_recording(caplog: pytest.LogCaptureFixture) -> None:
    with closing(RecordingFile("/dev/full")) as file:
        file.begin(beginning())
        assert file.failed

    assert "the recording ends here (No space left on device)" in caplog.text
    assert len(caplog.records) == 1


@contextlib.contextmanager
def fifo(tmp_path: Path) -> Iterator[tuple[int, RecordingFile]]:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with closing(RecordingFile(path)) as file:
            yield reader, file
    finally:
        os.close(reader)


def read_all(reader: int) -> bytes:
    data = b""
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(reader, 1 << 20):
            data += piece
    return data


def test_a_pipe_gets_all_that_its_reader_reads(tmp_path: Path) -> None:
    got = b""
    with fifo(tmp_path) as (reader, file):
        file.begin(beginning())
        for _ in range(10):
            file.write(bytes(100_000))
            got += read_all(reader)
        while len(got) < 5 + 10 * 100_000:
            file.push()
            got += read_all(reader)

    assert got == b"begin" + bytes(10 * 100_000)


def test_a_pipe_takes_the_recording_of_one_network(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A second one behind it would look like damage."""
    with fifo(tmp_path) as (reader, file):
        file.begin(beginning())
        file.begin(beginning(b"again"))
        file.write(b"more")
        assert read_all(reader) == b"begin"
        assert file.failed

    assert "the recording ends here (a pipe takes the recording of one network)" in caplog.text


def test_a_reader_that_does_not_read_ends_the_recording(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with fifo(tmp_path) as (_, file):
        file.begin(beginning())
        for _ in range(300):
            file.write(bytes(100_000))
        assert file.failed

    assert [record.getMessage() for record in caplog.records] == [
        "the recording ends here (the reader does not keep up); read it faster, or record to a file"
    ]


def test_a_reader_that_is_gone_ends_the_recording(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    with closing(RecordingFile(tmp_path / "fifo")) as file:
        os.close(reader)
        file.begin(beginning())
        file.push()
        assert file.failed

    assert len(caplog.records) == 1


def test_the_lock_ends_with_the_process(tmp_path: Path) -> None:
    path = tmp_path / "net.rec"
    program = f"import os; from sansnet_trio.recording.file import RecordingFile as R; R({str(path)!r}); os._exit(0)"
    subprocess.run([sys.executable, "-c", program], check=True)
    RecordingFile(path).close()


def test_a_file_system_without_locks_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with closing(RecordingFile(tmp_path / "net.rec")) as file:
        file.begin(beginning())

    assert parts(tmp_path / "net.rec")[0] == b"begin"


def test_closing_twice_does_nothing(tmp_path: Path) -> None:
    file = RecordingFile(tmp_path / "net.rec")
    file.close()
    descriptor = os.open(os.devnull, os.O_RDONLY)  # it has the number that was closed
    file.close()
    os.close(descriptor)


@pytest.mark.parametrize("wrong", [None, 3, b"net.rec"])
def test_a_wrong_path_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match=r"path: .* is not the path of a file"):
        RecordingFile(wrong)


@pytest.mark.parametrize("wrong", [None, True, 0.5, SIZE - 1, "1M"])
def test_a_wrong_size_is_refused(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(UsageError, match=f"size: .* is not a number of bytes; give {SIZE} or more"):
        RecordingFile(tmp_path / "net.rec", size=wrong)

    assert not list(tmp_path.iterdir())


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        RecordingFile(tmp_path / "missing" / "net.rec")


def test_a_fifo_without_a_reader_is_refused_after_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands block signals at this time, so nothing could end the wait."""
    monkeypatch.setattr("sansnet_trio.recording.file._READER_TIMEOUT", 0.1)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="nothing reads this FIFO"):
        RecordingFile(tmp_path / "fifo")


def test_a_fifo_may_get_its_reader_a_moment_later(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    reader = threading.Thread(target=lambda: (tmp_path / "fifo").read_bytes())
    starter = threading.Timer(0.1, reader.start)
    starter.start()
    with closing(RecordingFile(tmp_path / "fifo")):
        pass
    starter.join()
    reader.join(10)
    assert not reader.is_alive()


def test_others_may_not_read_the_recording_in_a_file_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "net.rec"
    path.touch()
    path.chmod(0o644)
    with closing(RecordingFile(path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
