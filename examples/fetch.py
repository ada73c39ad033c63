"""Runs pip in a network namespace and prints the flows that carried its download.

    python examples/fetch.py [PROJECT]

pip runs under `sansnet run -c PATH -- python -m pip install ...`, in a namespace whose only way out is sansnet.
Meanwhile, this program requests the flows at PATH, as `sansnet ctl PATH flows` does. It fails if pip finds the project
without the network, for example in a directory of wheels.
"""

from __future__ import annotations

import importlib.util
import json
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

PROJECT: Final = "sampleproject"
"""A small project that PyPA maintains for examples."""
PAUSE: Final = 0.01
"""Seconds between two requests for the flows."""


def main() -> str | None:
    """Run the example. Returns an error message, or None on success."""
    project = sys.argv[1] if len(sys.argv) > 1 else PROJECT
    if importlib.util.find_spec("pip") is None:
        return "this Python has no pip; with uv, run `uv run --with pip examples/fetch.py`"
    with tempfile.TemporaryDirectory(prefix="sansnet-") as directory:
        control, report = Path(directory, "control"), Path(directory, "report")
        options = ["--no-deps", "--no-cache-dir", "--disable-pip-version-check", "--report", str(report)]
        pip = [sys.executable, "-m", "pip", "install", *options, "--target", str(Path(directory, "there")), project]
        words = ["run", "-c", str(control), "--", *pip]
        print(f"$ {shlex.join(['sansnet', *words])}", flush=True)
        seen: dict[str, dict[str, Any]] = {}
        with subprocess.Popen([sys.executable, "-m", "sansnet_cli", *words]) as process:
            while process.poll() is None:
                seen.update((f"{flow['protocol']} {flow['guest']} {flow['remote']}", flow) for flow in flows(control))
                time.sleep(PAUSE)
        if process.returncode:
            return f"`sansnet run` ended with status {process.returncode}"
        [found] = json.loads(report.read_text())["install"]
    url = found["download_info"]["url"]
    if urlsplit(url).scheme not in ("http", "https"):
        return f"pip found {url}, which needs no network; name a project that is not available locally"
    if not any(flow["protocol"] == "tcp" and flow["received"] for flow in seen.values()):
        return "pip has fetched it, but sansnet has seen no connection"
    print(f"\nIn a network namespace of its own, pip fetched\n  {url}\nthrough sansnet, which saw these flows:")
    for flow in seen.values():
        print(f"  {flow['protocol']:4}  {end(flow['guest']):>24} -> {end(flow['remote']):24}", end="")
        print(f" {flow['sent']:>7} bytes sent, {flow['received']:>7} received")
    return None


def flows(control: Path) -> Iterator[dict[str, Any]]:
    """The current flows (docs/control.md); none before the network is ready and after it has ended."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(control))
            client.sendall(b'{"command": "flows"}\n')
            yield from json.loads(client.makefile().readline() or "{}").get("flows", ())
    except OSError:
        return


def end(endpoint: dict[str, Any]) -> str:
    """One endpoint of a flow as text."""
    address, port = endpoint["address"], endpoint["port"]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


if __name__ == "__main__":
    sys.exit(main())
