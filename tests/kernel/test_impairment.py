"""A bad network, as guests of each kind measure it: round trips, rates, losses, and data that arrives whole."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.lab import SERVER4, Guest, Lab, eventually
from tests.lab.machines import bridged, configured, guest_of_kind, machine, serving
from tests.lab.namespaces import running
from tests.lab.noise import Noise, served_noise

KINDS: Final = pytest.mark.parametrize("kind", ["run", "serve"])
IPERF_PORT: Final = 15201
WAITS: Final = "sansnet: the command has ended; its last data are on their way to the host, and Ctrl-C ends that\n"
"""The line that sansnet prints if the wait takes more than a second."""


@pytest.fixture(scope="module")
def noise(lab: Lab) -> Iterator[Noise]:
    with served_noise(lab, 8183, size=2_000_000) as made:
        yield made


def pinged(guest: Guest, *options: str) -> tuple[list[float], str]:
    """The round trips of pings in seconds, and the output."""
    done = guest.run("ping", *options, SERVER4, check=False, timeout=120)
    return [float(each) / 1000 for each in re.findall(r"time=([\d.]+) ms", done.stdout)], done.stdout


def measured(guest: Guest, *options: str) -> float:
    """Bits per second that an iperf3 in the guest measures at the receiver."""
    command = ("iperf3", "-c", SERVER4, "-p", str(IPERF_PORT), "-t", "4", "-O", "1", "--json", *options)
    found: dict[str, Any] = {}

    def is_measured() -> bool:
        """The server may still be busy with the end of an earlier measurement."""
        found.update(json.loads(guest.run(*command, check=False, timeout=60).stdout)["end"])
        return bool(found)

    assert eventually(is_measured, seconds=30)
    rate: float = (found["sum_received"] if "sum_received" in found else found["sum"])["bits_per_second"]
    return rate


@KINDS
def test_each_direction_delays(lab: Lab, kind: str) -> None:
    with guest_of_kind(lab, kind, "--delay", "up=80ms,down=20ms") as guest:
        times, _ = pinged(guest, "-c", "10", "-i", "0.2")
        assert len(times) == 10
        assert 0.1 <= min(times) < 0.13


@KINDS
@pytest.mark.parametrize("reverse", [(), ("-R",)], ids=["up", "down"])
def test_streams_have_the_rate(lab: Lab, kind: str, reverse: tuple[str, ...]) -> None:
    """Of 10 Mbit/s, 94.9 % are data of TCP in frames of 1514 bytes."""
    with (
        lab.iperf3_server(SERVER4, IPERF_PORT),
        guest_of_kind(lab, kind, "--rate", "10mbit", "--delay", "10ms", *(["-m", "1500"])) as guest,
    ):
        assert 8.0e6 < measured(guest, *reverse) < 9.8e6


def test_the_directions_have_rates_of_their_own(lab: Lab) -> None:
    with (
        lab.iperf3_server(SERVER4, IPERF_PORT),
        lab.guest("--rate", "up=2mbit,down=20mbit") as guest,
    ):
        assert 1.5e6 < measured(guest) < 2e6
        assert 16e6 < measured(guest, "-R") < 20e6


def test_datagrams_have_the_rate(lab: Lab) -> None:
    with lab.iperf3_server(SERVER4, IPERF_PORT), lab.guest("--rate", "5mbit") as guest:
        assert 4.4e6 < measured(guest, "-u", "-b", "20M", "-R") < 5.2e6


def test_a_full_queue_of_the_guest_delays_as_long_as_it_is(lab: Lab) -> None:
    """A queue of 50 full frames takes 300 ms at 2 Mbit/s; TCP of the guest fills it."""
    with lab.iperf3_server(SERVER4, IPERF_PORT), lab.guest("--rate", "2mbit", "--queue", "50") as guest:
        thread = threading.Thread(target=lambda: measured(guest))
        thread.start()
        times, _ = pinged(guest, "-c", "15", "-i", "0.2")
        thread.join()
        assert 0.1 < max(times) < 0.7


@KINDS
def test_the_share_of_losses(lab: Lab, kind: str) -> None:
    with guest_of_kind(lab, kind, "--loss", "up=20%", "--seed", "1") as guest:
        times, _ = pinged(guest, "-c", "500", "-i", "0.005")
        assert 350 < len(times) < 450


def test_duplicates_are_seen(lab: Lab) -> None:
    with lab.guest("--duplicate", "down=50%", "--seed", "1") as guest:
        _, said = pinged(guest, "-c", "40", "-i", "0.05")
        assert 5 < said.count("DUP!") < 35


@KINDS
def test_files_pass_whole(lab: Lab, kind: str, noise: Noise) -> None:
    faults = ("--loss", "1%", "--duplicate", "1%", "--reorder", "2%", "--corrupt", "1%", "--jitter", "1ms")
    with guest_of_kind(lab, kind, *faults) as guest:
        url = noise.url(SERVER4)
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "noise")
            guest.run("curl", "-s", "--max-time", "60", "-o", str(path), url, timeout=90)
            assert hashlib.sha256(path.read_bytes()).hexdigest() == noise.digest
            done = guest.run("curl", "-s", "--max-time", "60", "--data-binary", f"@{path}", url, timeout=90)
            assert done.stdout == noise.digest


def test_clients_of_the_control_socket_change_it(lab: Lab, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    path = tmp_path / "control"

    def ctl(*arguments: str) -> subprocess.CompletedProcess[str]:
        return lab.host.run(sys.executable, "-m", "sansnet_cli", "ctl", str(path), *arguments, check=False)

    def impair(*arguments: str) -> Any:
        return json.loads(ctl("impair", *arguments, "--json").stdout)

    with lab.guest("-c", str(path)) as guest:
        assert impair()["up"]["counters"] is None
        assert min(pinged(guest, "-c", "5", "-i", "0.1")[0]) < 0.05
        assert impair("--delay", "60ms", "--corrupt", "up=50%")["up"]["delay"] == 0.06
        times, _ = pinged(guest, "-c", "40", "-i", "0.05")
        assert min(times) >= 0.12
        assert 5 < len(times) < 35  # the checksum of others is wrong
        found = impair("--corrupt", "0", "--loss", "down=100%")
        assert (found["up"]["delay"], found["up"]["corrupt"], found["down"]["loss"]) == (0.06, 0.0, 1.0)
        assert found["up"]["counters"]["corrupted"] > 5
        assert pinged(guest, "-c", "3", "-i", "0.1", "-W", "1")[0] == []
        assert "from the guest  none" in ctl("impair", "none").stdout
        assert min(pinged(guest, "-c", "5", "-i", "0.1")[0]) < 0.05
        assert "impaired down lost" in ctl("counters").stdout


def test_a_change_stays_for_the_next_machine(lab: Lab, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    path = str(tmp_path / "control")
    ctl = (sys.executable, "-m", "sansnet_cli", "ctl", path, "impair", "--json")
    with serving(lab, "-c", path, "--delay", "up=30ms") as server:
        found = json.loads(lab.host.run(*ctl, "--delay", "down=70ms").stdout)
        assert (found["up"]["delay"], found["down"]["delay"], found["up"]["counters"]) == (0.03, 0.07, None)
        for _ in range(2):
            with machine() as namespace, bridged(namespace, server.path):
                configured(namespace)
                said = namespace.run("ping", "-c", "3", "-i", "0.2", SERVER4).stdout
                assert 100 <= min(float(each) for each in re.findall(r"time=([\d.]+) ms", said)) < 140
        assert server.end() == 0


def test_an_attached_namespace_has_it(lab: Lab) -> None:
    command = lab.host.command(
        sys.executable, "-m", "sansnet_cli", "attach", "--netns", "impaired", "-I", "eth0", "--delay", "50ms"
    )
    lab.host.run("ip", "netns", "add", "impaired")
    try:
        with running(command, stderr=subprocess.PIPE) as process:
            assert process.stderr is not None
            assert process.stderr.readline().strip()
            said = lab.host.run("ip", "netns", "exec", "impaired", "ping", "-c", "10", "-i", "0.2", SERVER4).stdout
            assert 100 <= min(float(each) for each in re.findall(r"time=([\d.]+) ms", said)) < 140
    finally:
        lab.host.run("ip", "netns", "delete", "impaired")


def test_the_last_data_of_a_command_arrives(lab: Lab) -> None:
    """Although its kernel must send some of them again, after the command has ended."""
    received: list[bytes] = []
    with lab.upstream.listen(SERVER4) as listener:
        port = listener.getsockname()[1]

        def serve() -> None:
            for _ in range(10):
                with listener.accept()[0] as stream:
                    data = b""
                    while more := stream.recv(1 << 16):
                        data += more
                    received.append(data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        script = f"for i in 1 2 3 4 5 6 7 8 9 10; do head -c 3000 /dev/zero >/dev/tcp/{SERVER4}/{port}; done"
        options = ["--delay", "50ms", "--loss", "15%", "--seed", "4"]
        done = lab.sansnet(options, ["bash", "-c", script])
        assert (done.returncode, done.stderr.replace(WAITS, "")) == (0, "")
        thread.join(10)
    assert received == [bytes(3000)] * 10


def test_the_last_datagrams_of_a_command_arrive(lab: Lab) -> None:
    with lab.upstream.datagram(SERVER4) as server:
        port = server.getsockname()[1]
        script = f"for i in 1 2 3; do echo $i; done >/dev/udp/{SERVER4}/{port}"
        done = lab.sansnet(["--delay", "up=1s"], ["bash", "-c", script])
        assert (done.returncode, done.stderr.replace(WAITS, "")) == (0, "")
        server.settimeout(5)
        assert {int(server.recv(100)) for _ in range(3)} == {1, 2, 3}


def test_the_library_takes_impairments(lab: Lab) -> None:
    program = (
        "import trio, sys\n"
        "from sansnet_core.impairment import Impairment\n"
        "from sansnet_trio import NamespaceOptions, run_guest\n"
        "slow = Impairment(delay=0.1)\n"
        "options = NamespaceOptions(impair_up=slow, impair_down=slow)\n"
        f"trio.run(run_guest, ['ping', '-c', '3', '-i', '0.2', '{SERVER4}'], options)\n"
    )
    done = lab.host.run(sys.executable, "-c", program, timeout=30)
    times = [float(each) for each in re.findall(r"time=([\d.]+) ms", done.stdout)]
    assert len(times) == 3
    assert 200 <= min(times) < 240
