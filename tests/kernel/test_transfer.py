"""Files of real size, through programs that people use, in both directions."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.lab import SERVER4, SERVER6, USER, Guest, Lab

SIZE: Final = 100_000_000
SMALL_SIZE: Final = 10_000_000
HTTP_PORT: Final = 8080
IPERF_PORT: Final = 5201
RSYNC_PORT: Final = 8730


@pytest.fixture(scope="module")
def files(lab: Lab) -> Iterator[Path]:
    """A directory that upstream serves, with a large and a small file of noise."""
    directory = lab.directory / "files"
    directory.mkdir()
    noise = random.Random(1).randbytes(SIZE)
    (directory / "large").write_bytes(noise)
    (directory / "small").write_bytes(noise[:SMALL_SIZE])
    with lab.http_server(HTTP_PORT, directory):
        yield directory


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(guest: Guest, server: str, source: Path, target: Path) -> None:
    url = f"http://{f'[{server}]' if ':' in server else server}:{HTTP_PORT}/{source.name}"
    guest.run("curl", "-sS", "--fail", "--max-time", "120", "--output", str(target), url, timeout=150)
    assert sha256(target) == sha256(source)


def upload(guest: Guest, server: str, source: Path) -> None:
    url = f"http://{f'[{server}]' if ':' in server else server}:{HTTP_PORT}/upload"
    answer = guest.run("curl", "-sS", "--fail", "--max-time", "120", "--upload-file", str(source), url, timeout=150)
    assert answer.stdout == sha256(source)


def test_a_large_file_comes_down_whole(guest: Guest, server: str, files: Path, tmp_path: Path) -> None:
    download(guest, server, files / "large", tmp_path / "down")


def test_a_large_file_goes_up_whole(guest: Guest, server: str, files: Path) -> None:
    upload(guest, server, files / "large")


@pytest.mark.parametrize("mtu", [1280, 1500, 9000, 65520])
def test_files_pass_whole_at_any_mtu(lab: Lab, mtu: int, server: str, files: Path, tmp_path: Path) -> None:
    with lab.guest("--mtu", str(mtu)) as guest:
        assert f"mtu {mtu} " in guest.shell(f"ip link show dev {guest.interface}").stdout
        download(guest, server, files / "small", tmp_path / "down")
        upload(guest, server, files / "small")


def test_files_pass_whole_for_an_ordinary_user(lab: Lab, server: str, files: Path, tmp_path: Path) -> None:
    with lab.guest(user=USER) as guest:
        download(guest, server, files / "small", tmp_path / "down")
        upload(guest, server, files / "small")


def test_files_pass_whole_when_the_guest_has_no_segmentation_offload(
    lab: Lab, server: str, files: Path, tmp_path: Path
) -> None:
    with lab.guest("--mtu", "1500") as guest:
        guest.shell(f"ethtool -K {guest.interface} tso off gso off gro off tx off")
        download(guest, server, files / "small", tmp_path / "down")
        upload(guest, server, files / "small")


@pytest.mark.parametrize("streams", [1, 8])
@pytest.mark.parametrize("direction", [[], ["--reverse"]], ids=["up", "down"])
@pytest.mark.parametrize("mtu", [1500, 65520])
def test_iperf3_moves_bytes(lab: Lab, mtu: int, direction: list[str], streams: int) -> None:
    server = SERVER6 if streams == 1 else SERVER4
    command = ["iperf3", "--client", server, "--port", str(IPERF_PORT), "--time", "2", "--json"]
    with lab.iperf3_server(server, IPERF_PORT), lab.guest("--mtu", str(mtu)) as guest:
        report = json.loads(guest.run(*command, "--parallel", str(streams), *direction).stdout)
    moved = [stream["receiver"]["bytes"] for stream in report["end"]["streams"]]
    assert len(moved) == streams
    assert min(moved) > 100_000


@pytest.mark.parametrize("direction", [[], ["--reverse"]], ids=["up", "down"])
def test_iperf3_sees_little_loss_of_datagrams_at_a_moderate_rate(guest: Guest, lab: Lab, direction: list[str]) -> None:
    command = ["iperf3", "--client", SERVER4, "--port", str(IPERF_PORT), "--time", "2", "--json", "--udp"]

    def lost() -> float:
        """Datagrams that were lost, in percent."""
        with lab.iperf3_server(SERVER4, IPERF_PORT):
            report = json.loads(guest.run(*command, "--bitrate", "5M", "--length", "1200", *direction).stdout)
        assert report["end"]["sum"]["packets"] > 900
        percent: float = report["end"]["sum"]["lost_percent"]
        return percent

    # On a busy machine a process may rest for so long that a buffer overflows
    assert any(lost() < 5 for _ in range(4))


def test_rsync_copies_a_tree_up_and_down(guest: Guest, lab: Lab, server: str, tmp_path: Path) -> None:
    there, source, back = (tmp_path / name for name in ("there", "source", "back"))
    for directory in (there, source, back):
        directory.mkdir()
    noise = random.Random(2)
    for number in range(100):
        (source / f"{number}").write_bytes(noise.randbytes(noise.choice([0, 1, 1000, 50_000, 500_000])))
    url = f"rsync://{f'[{server}]' if ':' in server else server}:{RSYNC_PORT}/files/"
    with lab.rsync_daemon(RSYNC_PORT, there):
        guest.run("rsync", "--archive", "--timeout=60", f"{source}/", url, timeout=90)
        guest.run("rsync", "--archive", "--timeout=60", url, f"{back}/", timeout=90)
    for file in source.iterdir():
        assert (there / file.name).read_bytes() == file.read_bytes()
        assert (back / file.name).read_bytes() == file.read_bytes()
