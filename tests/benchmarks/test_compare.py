"""The comparison with the C programs: each kind of cell has a result, and what fails ends nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from cells import CELLS
from compare import at_most
from laboratory import CellFailed, build_traffic
from meter import Children, Meter, memory
from publish import publish_file
from references import RELEASES
from results import Results

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

PROGRAM: Final = Path("benchmarks/compare.py")
KINDS: Final = [
    "tcp-down-65520-8", "tcp-up-1500", "tcp-rr-32-pinned", "tcp-crr-1", "udp-up-64", "udp-down-1400", "udp-latency",
    "tap-crr-32", "splice-in", "burst", "idle-udp", "idle-tcp", "memory", "attach", "start-up", "version",
]  # fmt: skip
"""One cell of each kind."""


def compare(file: Path, *options: str) -> tuple[Results, subprocess.CompletedProcess[str]]:
    line = [sys.executable, str(PROGRAM), "--rounds", "1", "--seconds", "0.1", "--json", str(file), *options]
    done = subprocess.run(line, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    return Results.load(file), done


@pytest.mark.parametrize("cells", [KINDS[:8], KINDS[8:]], ids=["traffic", "others"])
def test_each_kind_of_cell_has_a_result(cells: list[str], tmp_path: Path) -> None:
    found, done = compare(tmp_path / "results.json", "--programs", "sansnet", "--only", *cells)
    assert found.failures == []
    rows = [row for cell in CELLS if cell.name in cells for row in cell.rows]
    assert found.rows == rows
    for row in rows:
        [value] = found.values[row.name]["sansnet"]
        assert value > 0 or row.name == "burst-lost"
        assert not row.cpu_unit or found.cpu[row.name]["sansnet"][0] > 0
        assert row.name in done.stdout


def test_the_programs_of_both_releases_run_without_being_installed(tmp_path: Path) -> None:
    assert all(release.missing() is None for release in RELEASES.values())
    names = ["pasta-12", "pasta-13", "slirp4netns-12", "slirp4netns-13"]
    found, _ = compare(tmp_path / "results.json", "--programs", *names, "--only", "tcp-rr-1")
    assert found.failures == []
    assert set(found.values["tcp-rr-1"]) == set(found.cpu["tcp-rr-1"]) == set(names)
    assert [text.rpartition(" of ")[2] for text in found.programs.values()] == ["Debian 12", "Debian 13"] * 2


def test_a_program_that_fails_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    broken = ["--sansnet", "broken=sh -c 'echo it does not start >&2; exit 3' x"]
    found, done = compare(tmp_path / "results.json", "--programs", "sansnet", *broken, "--only", "tcp-rr-1", "version")
    assert found.failures == [
        "tcp-rr-1 of broken in round 1/1: it does not start",
        "version of broken in round 1/1: it does not start",
    ]
    assert "failed: version of broken in round 1/1: it does not start" in done.stdout
    assert all(list(found.values[name]) == ["sansnet"] for name in ("tcp-rr-1", "version"))


def test_another_build_gets_a_column_of_its_own(tmp_path: Path) -> None:
    other = ["--sansnet", f"other={sys.executable}"]
    found, _ = compare(tmp_path / "results.json", "--programs", "sansnet", *other, "--only", "version")
    assert set(found.values["version"]) == {"sansnet", "other"}


def test_where_the_time_goes_is_a_table_of_the_page(tmp_path: Path) -> None:
    file, page = tmp_path / "where.json", tmp_path / "performance.md"
    line = [sys.executable, "benchmarks/where.py", "--seconds", "0.3", "--programs", "sansnet", "--only", "tcp-rr-1"]
    done = subprocess.run([*line, "--json", str(file)], capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    page.write_text("<!-- results: where -->\n<!-- /results: where -->\n")
    publish_file(file, page)
    [line_of_cell] = [each for each in page.read_text().splitlines() if each.startswith("| tcp-rr-1 ")]
    _, _, program, _, used, own, kernel, calls, named, _ = (each.strip() for each in line_of_cell.split("|"))
    assert program == "sansnet"
    assert float(own) + float(kernel) == pytest.approx(float(used), rel=0.02)
    assert float(calls) > 3  # at least it waits, reads and writes
    assert "read" in named


def test_a_cell_that_takes_too_long_is_given_up() -> None:
    begin = time.monotonic()
    with pytest.raises(CellFailed, match="took more than 0 s"), at_most(0.1):
        time.sleep(60)
    assert time.monotonic() - begin < 30
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_traffic(tmp_path_factory.mktemp("traffic"))


@contextmanager
def served(tool: Path, kind: str, port: int) -> Iterator[None]:
    line = [str(tool), "serve", kind, "127.0.0.1", str(port), "1", "1400", "1"]
    with subprocess.Popen(line, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        try:
            yield
        finally:
            server.kill()


def test_streams_carry_random_data(tool: Path) -> None:
    with served(tool, "tcp-down", 6301), socket.create_connection(("127.0.0.1", 6301)) as stream:
        data = stream.recv(1 << 20, socket.MSG_WAITALL)
    assert len(data) == 1 << 20
    assert len(zlib.compress(data[: 1 << 18])) > 1 << 18


def test_datagrams_carry_random_data(tool: Path) -> None:
    with served(tool, "udp-down", 6302), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.connect(("127.0.0.1", 6302))
        datagrams.send(b"go")
        for _ in range(10):
            data = datagrams.recv(2000)
            assert len(data) == 1400
            assert len(zlib.compress(data)) > 1400


def test_processor_time_of_all_processes_is_counted() -> None:
    line = ["sh", "-c", "(while :; do :; done) & while :; do :; done"]
    with subprocess.Popen(line, start_new_session=True) as process:
        try:
            time.sleep(0.2)
            children = [
                int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            ]
            both, one = Meter(lambda: [process.pid, *children]), Meter(lambda: [process.pid])
            while one.used() < 0.2:
                time.sleep(0.05)
            assert both.used() > one.used() > 0
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_processor_time_of_a_start_includes_that_of_children() -> None:
    children = Children()
    subprocess.run(["sh", "-c", "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; true"], check=True)
    assert children.end(10) > 0.05


def test_memory_that_processes_share_counts_once() -> None:
    size = 64 << 20
    code = f"import os, sys; a = b'x' * {size}; os.fork(); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.read(2) == b"\n\n"
        children = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        assert size < memory([process.pid, *children]) < 2 * size
        process.stdin.close()
