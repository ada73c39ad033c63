"""The example of a trio program that embeds a guest's network."""

from __future__ import annotations

import subprocess
import sys
import threading
from http.server import HTTPServer, SimpleHTTPRequestHandler

import pytest


@pytest.mark.kernel
def test_a_trio_program_gives_a_command_a_network() -> None:
    with HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        url = f"http://10.0.2.2:{server.server_port}/"
        done = subprocess.run(
            [sys.executable, "-m", "examples.embed", "curl", "-sI", url], capture_output=True, text=True, timeout=60
        )
        server.shutdown()
        thread.join(5)
    assert done.returncode == 0, done.stderr
    assert f"the guest opened 10.0.2.2:{server.server_port}\n" in done.stdout
    assert "200 OK" in done.stdout


@pytest.mark.kernel
def test_a_guest_that_deletes_its_interface_is_an_end_in_one_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.embed", "sh", "-c", "ip link delete eth0; sleep 60"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("the guest has lost its network, so its command was ended: the tap has lost")
    assert done.stderr.count("\n") == 1
