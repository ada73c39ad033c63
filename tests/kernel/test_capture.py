"""Captures as other programs read them."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

from tests.lab import HOST4, SERVER4, SERVER6, USER, Lab, eventually
from tests.lab.namespaces import running


def test_tcpdump_reads_both_directions(lab: Lab) -> None:
    capture = lab.directory / "both.pcap"
    script = f"ping -c2 -i0.2 {SERVER4} && ping -c1 {SERVER6}"
    assert lab.sansnet(["--pcap", str(capture)], ["sh", "-c", script]).returncode == 0
    lines = lab.host.run("tcpdump", "-nnv", "-r", str(capture)).stdout
    assert lines.count("ICMP echo request") == 2
    assert lines.count("ICMP echo reply") == 2
    assert "ICMP6, echo request" in lines
    assert "ICMP6, echo reply" in lines
    assert "bad" not in lines
    assert "truncated" not in lines


def test_checksums_are_right_even_of_frames_that_the_kernel_left_partial(lab: Lab, tmp_path: Path) -> None:
    lab.directory.joinpath("web").mkdir()
    lab.directory.joinpath("web", "file").write_bytes(bytes(300_000))
    capture = lab.directory / "sums.pcap"
    with lab.http_server(8090, lab.directory / "web"):
        command = ["curl", "-sS", "-o", "/dev/null", f"http://{SERVER4}:8090/file"]
        assert lab.sansnet(["-p", str(capture), "-m", "1500"], command).returncode == 0
    text = lab.host.run("tcpdump", "-nnvv", "-r", str(capture), "tcp").stdout
    assert f"{HOST4}." in text
    assert "incorrect" not in text
    assert text.count("(correct)") > 4


def test_the_snaplen_is_the_links_largest_frame_and_no_frame_is_cut(lab: Lab) -> None:
    capture = lab.directory / "large.pcap"
    assert lab.sansnet(["-p", str(capture)], ["ping", "-c1", "-Mdont", "-s60000", SERVER4]).returncode == 0
    data = capture.read_bytes()
    magic, _, _, _, _, snaplen, link_type = struct.unpack_from("<IHHiIII", data)
    assert (magic, link_type) == (0xA1B2C3D4, 1)
    position, lengths = 24, []
    while position < len(data):
        _, _, kept, length = struct.unpack_from("<IIII", data, position)
        assert kept == length
        lengths.append(length)
        position += 16 + kept
    assert max(lengths) == 14 + 20 + 8 + 60000
    assert snaplen >= max(lengths)


def test_a_capture_can_be_read_while_it_grows_and_after_a_kill(lab: Lab) -> None:
    capture = lab.directory / "live.pcap"
    command = lab.sansnet_command(
        ["-p", str(capture)], ["sh", "-c", f"ping -c1 {SERVER4}; exec sleep 60"], user=None, before=""
    )
    with running(command, stdout=subprocess.DEVNULL) as process:
        read = f"tcpdump -nn -r {capture} icmp | grep -c echo"
        assert eventually(lambda: lab.host.shell(read, check=False).stdout == "2\n")
        process.kill()
        process.wait(5)
    assert lab.host.shell(read).stdout == "2\n"


def test_a_user_may_capture_too(lab: Lab) -> None:
    directory = lab.directory / "users"
    directory.mkdir()
    directory.chmod(0o777)
    capture = directory / "user.pcap"
    assert lab.sansnet(["-p", str(capture)], ["ping", "-c1", SERVER4], user=USER).returncode == 0
    assert capture.stat().st_uid == USER
    assert "echo reply" in lab.host.run("tcpdump", "-nn", "-r", str(capture)).stdout
