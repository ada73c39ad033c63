"""The complete programs of the documentation, run with guests as the pages say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from sansnet_core import pcap
from sansnet_core.recording import Replay
from sansnet_core.summary import summary
from tests.lab import SERVER4, DnsServer, Lab, laboratory
from tests.lab.namespaces import running

DOCS: Final = Path("docs")
PAGES: Final = {
    "ask": DOCS / "how-to/ask-before-a-flow-leaves.md",
    "audit": DOCS / "audit.md",
    "container": DOCS / "how-to/give-a-container-a-network.md",
    "capture": DOCS / "how-to/capture-and-trace.md",
    "decide": DOCS / "how-to/decide-about-every-flow.md",
    "forward": DOCS / "how-to/forward-a-port.md",
    "intercept": DOCS / "how-to/intercept-http.md",
    "machine": DOCS / "how-to/put-a-machine-on-a-test-network.md",
    "record": DOCS / "how-to/record-and-replay.md",
    "secure": DOCS / "how-to/serve-tls-and-udp.md",
    "several": DOCS / "how-to/run-several-guests.md",
    "tutorial": DOCS / "tutorial/3-a-guest-in-a-trio-program.md",
    "watch": DOCS / "how-to/watch-what-a-guest-does.md",
    "world": DOCS / "how-to/give-a-program-only-your-network.md",
}
"""Each block of Python of these pages is one program."""

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make network namespaces"),
]

Run = Callable[..., list[str]]


def programs(page: Path) -> list[str]:
    """The programs of a page."""
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with laboratory() as made:
        served = made.directory / "served"
        served.mkdir()
        (served / "index.html").write_text("a page\n")
        dns = DnsServer({("www.lab.example", "A"): [SERVER4]})
        with made.http_server(80, served), dns.on(made.upstream, SERVER4):
            yield made


@pytest.fixture
def run(lab: Lab) -> Run:
    """Runs a program of a page in the laboratory's host; returns the lines that it prints, of stdout and stderr."""

    def run(name: str, *arguments: str, number: int = 0, status: int = 0) -> list[str]:
        path = lab.directory / f"{name}-{number}.py"
        path.write_text(programs(PAGES[name])[number])
        command = [sys.executable, "-W", "error", str(path), *arguments]
        done = lab.host.run("env", f"--chdir={lab.directory}", *command, check=False)
        assert done.returncode == status, done.stderr
        return (done.stdout + done.stderr).replace("\r", "").splitlines()

    return run


def test_five_lines_give_a_command_a_network(run: Run) -> None:
    assert any("198.51.100.2/24" in line for line in run("tutorial", "ip", "address"))
    assert "a page" in run("tutorial", "curl", "-s", f"http://{SERVER4}/")


def test_the_program_with_accounts_prints_the_summary_and_the_policy(run: Run, lab: Lab) -> None:
    printed = run("audit", "curl", "-s", "http://www.lab.example/")
    assert any(line.startswith("reached 1 name, refused 0;") for line in printed), printed
    assert 'to = "www.lab.example"' in printed
    kinds = [json.loads(line)["kind"] for line in (lab.directory / "audit.jsonl").read_text().splitlines()]
    assert (kinds[0], kinds[-1], "flow" in kinds) == ("start", "end", True)


def test_the_program_that_watches_prints_what_the_guest_opens(run: Run) -> None:
    lines = run("tutorial", "curl", "-s", "http://www.lab.example/", number=1)
    assert {f"the guest opened {SERVER4}:53", f"the guest opened {SERVER4}:80", "a page"} <= set(lines)
    run("tutorial", "false", number=1, status=1)


def test_the_program_is_the_guests_server(run: Run) -> None:
    assert run("tutorial", "curl", "-s", "http://10.0.2.2/", number=2) == ["you said: GET / HTTP/1.1"]
    run("tutorial", "curl", "-s", "http://10.0.2.9:81/", number=2, status=7)  # refused here


def test_the_program_connects_to_the_guests_server(run: Run) -> None:
    assert "HTTP/1.0 200 OK" in run("tutorial", number=3)


def test_the_program_decides(run: Run) -> None:
    refused = run("tutorial", "curl", "-sS", f"http://{SERVER4}/", number=4, status=7)
    assert any("connect to server" in line for line in refused), refused


def test_every_flow_is_decided_about(run: Run) -> None:
    assert "only https is allowed here" in (lines := run("decide", "curl", "-s", f"http://{SERVER4}/"))
    assert any(re.fullmatch(rf"tcp 198\.51\.100\.2:\d+ to {SERVER4}:80", line) for line in lines)


def test_flows_wait_for_answers(run: Run) -> None:
    lines = run("ask", "curl", "-s", f"http://{SERVER4}/")
    assert "a page" in lines
    assert any(re.fullmatch(rf"tcp 198\.51\.100\.2:\d+ to {SERVER4}:80 waits", line) for line in lines)


def test_a_guest_is_watched(run: Run) -> None:
    lines = run("watch", "curl", "-s", f"http://{SERVER4}/")
    assert "a page" in lines
    assert any(f"to {SERVER4}:80 opened" in line for line in lines)
    assert any(line.startswith("frames: ") for line in lines)


def test_the_program_serves_tls_and_udp(run: Run) -> None:
    assert run("secure", "curl", "-sS", "https://app.internal/") == ["very secret"]
    ask = "exec 3<>/dev/udp/app.internal/7000; echo hello >&3; head -1 <&3"
    assert run("secure", "bash", "-c", ask) == ["HELLO"]
    run(
        "secure", "env", "-u", "SSL_CERT_FILE", "-u", "CURL_CA_BUNDLE", "curl", "-s", "https://app.internal/", status=60
    )


def test_the_program_asks_a_udp_server_in_the_guest(run: Run) -> None:
    one, some = run("secure", number=1)
    assert one == "b'ONE SERVER'"
    assert re.fullmatch(r"b'ANY SERVER' 10\.0\.2\.15:7000 to 10\.0\.2\.2:\d+", some)


def test_a_port_is_forwarded_at_run_time(run: Run) -> None:
    [line] = run("forward", "sleep", "0.1")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/ leads to the guest's port 8000", line)


def test_a_namespace_gets_a_network(lab: Lab) -> None:
    path = lab.directory / "container.py"
    path.write_text(programs(PAGES["container"])[0])
    sleeper = lab.host.command("unshare", "--net", "sh", "-c", "echo $$; exec sleep 1000")
    with running(sleeper, stdout=subprocess.PIPE) as container:
        assert container.stdout is not None
        process = container.stdout.readline().strip()
        command = lab.host.command(sys.executable, "-W", "error", str(path), process)
        with running(command, stdout=subprocess.PIPE) as program:
            assert program.stdout is not None
            assert "10.0.2.15" in program.stdout.readline()
            page = lab.host.run("nsenter", "--target", process, "--net", "curl", "-s", "http://10.0.2.2/").stdout
            assert page == "hello, container\n"
            container.kill()
            container.wait()
            assert program.wait(30) == 0


def test_two_guests_are_connected(run: Run) -> None:
    assert "HTTP/1.0 200 OK" in run("several")


def test_a_program_has_no_network_but_this(run: Run) -> None:
    assert run("world", "curl", "-s", "http://app.internal/") == ["you have reached the only server of this world"]
    assert any("1 received" in line for line in run("world", "ping", "-c1", "192.0.2.1"))
    run("world", "curl", "-s", "https://example.com/", status=6)  # curl cannot resolve the name
    run("world", "curl", "-s", f"http://{SERVER4}/", status=7)  # it is refused


def test_http_is_intercepted(run: Run) -> None:
    lines = run("intercept", "curl", "-s", f"http://{SERVER4}/")
    assert "a page" in lines
    assert f"{SERVER4}:80 GET / HTTP/1.1" in lines


def test_a_network_is_recorded(lab: Lab, run: Run) -> None:
    run("record", "ping", "-c1", SERVER4)
    assert Replay((lab.directory / "net.rec").read_bytes()).run() > 3


def test_frames_are_captured(lab: Lab, run: Run) -> None:
    run("capture", "ping", "-c1", SERVER4)
    with (lab.directory / "guest.pcap").open("rb") as file:
        lines = [summary(frame) for _, frame in pcap.read(file.read())]
    assert sum("ICMP echo request" in line for line in lines) == 1
    assert sum("ICMP echo reply" in line for line in lines) == 1
