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
    assert f"the guest opened 10.0.2.2 {server.server_port}\n" in done.stdout
    assert "200 OK" in done.stdout
