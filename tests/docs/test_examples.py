"""The examples of the documentation, run as they stand there."""

from __future__ import annotations

import ast
import doctest
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import pytest

from sansnet_core.summary import summary
from sansnet_core.testing import packets
from tests.docs.test_programs import PAGES as PAGES_OF_PROGRAMS

PAGES: Final = sorted(path for path in Path("docs").rglob("*.md") if "news" not in path.parts)
SESSIONS: Final = [path for path in PAGES if "```pycon\n" in path.read_text()]
PROGRAMS: Final = [
    Path("docs/tutorial/4-a-virtual-machine.md"),
    Path("docs/how-to/give-a-guest-the-hosts-network.md"),
    Path("docs/security.md"),
]
"""The Python of each is one program, which a test below runs."""
FRAGMENTS: Final = [Path("docs/forwarding.md"), Path("docs/how-to/answer-dns-questions.md")]
"""Their Python shows single calls, and is compiled only."""


def blocks(page: Path, *languages: str) -> list[tuple[int, str, str]]:
    """The code of a page: line, language, text."""
    text = page.read_text()
    found = re.finditer(rf"^```({'|'.join(languages)})\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, match.start(2)), match[1], match[2]) for match in found]


def run_session(page: Path) -> str:
    """Run a page's Python from top to bottom in one namespace; what differs from the page."""
    names: dict[str, Any] = {"__name__": page.stem}
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.FAIL_FAST)
    said: list[str] = []
    for line, language, text in blocks(page, "python", "pycon"):
        if language == "python":
            exec(compile("\n" * line + text, str(page), "exec"), names)
            continue
        test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), line)
        test.globs = names
        runner.run(test, out=said.append, clear_globs=False)
    return "".join(said)


def test_each_page_with_python_is_run() -> None:
    assert len(SESSIONS) > 4
    run = {*SESSIONS, *PROGRAMS, *FRAGMENTS, *PAGES_OF_PROGRAMS.values()}
    assert {page for page in PAGES if blocks(page, "python")} <= run


@pytest.mark.slow
@pytest.mark.parametrize("page", SESSIONS, ids=lambda page: page.stem)
def test_a_session_at_the_prompt_is_as_the_page_shows(page: Path) -> None:
    assert run_session(page) == ""


def test_a_session_that_differs_from_its_page_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nx = 1\n```\n\n```pycon\n>>> x + 1\n3\n```\n")
    assert "line 6" in (said := run_session(page)), said
    assert "Expected:\n    3\nGot:\n    2\n" in said


@pytest.mark.parametrize("page", FRAGMENTS, ids=lambda page: page.stem)
def test_a_fragment_can_be_compiled(page: Path) -> None:
    for line, _, text in blocks(page, "python"):
        compile("\n" * line + text, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def program(page: Path, directory: Path) -> str:
    """The Python of a page as one file."""
    path = directory / "program.py"
    path.write_text("\n\n".join(text for _, _, text in blocks(page, "python")))
    return str(path)


@pytest.mark.kernel
def test_the_guest_with_the_hosts_network_reaches_the_host(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        script = "import socket, sys; socket.create_connection(('10.9.9.9', int(sys.argv[1]))).send(b'x')"
        script += "; print(socket.gethostname())"
        port = str(server.getsockname()[1])
        command = [sys.executable, program(PROGRAMS[1], tmp_path), sys.executable, "-c", script, port]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (0, "visitor\n"), done.stderr
        connection, _ = server.accept()
        with connection:
            connection.settimeout(60)
            assert connection.recv(10) == b"x"


@pytest.mark.kernel
def test_the_program_that_confines_itself_serves_its_command(tmp_path: Path) -> None:
    script = "exit 6"
    command = [sys.executable, program(PROGRAMS[2], tmp_path), "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr[:45]) == (6, "sandbox: only the system calls it needs, no f"), done


@pytest.mark.slow
def test_the_program_that_serves_machines_answers_one(tmp_path: Path) -> None:
    path = tmp_path / "guest.socket"
    frame = packets.arp_request(bytes.fromhex("525400123456"), bytes((10, 0, 2, 15)), bytes((10, 0, 2, 2)))
    command = [sys.executable, program(PROGRAMS[0], tmp_path), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, socket.socket(socket.AF_UNIX) as qemu:
        try:
            for _ in range(600):
                if path.exists() and qemu.connect_ex(str(path)) == 0:
                    break
                time.sleep(0.1)
            qemu.settimeout(30)
            qemu.sendall(len(frame).to_bytes(4) + frame)
            answers = qemu.makefile("rb")
            while "ARP, 10.0.2.2 is at" not in summary(answers.read(int.from_bytes(answers.read(4)))):
                pass  # what the network sends by itself
        finally:
            process.terminate()
