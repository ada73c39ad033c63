"""The options of the sandbox: of `sansnet run` and the other commands with a guest, and of pasta and passt."""

from __future__ import annotations

from collections.abc import Callable
from subprocess import run
from sys import executable
from typing import Any

import pytest

from sansnet_cli.attach.parser import parse as parse_attach
from sansnet_cli.compat.parsed_options import Misuse, ParsedOptions
from sansnet_cli.compat.request import read
from sansnet_cli.ctl.command import show
from sansnet_cli.options.records import CommandLineError
from sansnet_cli.qemu.parser import parse as parse_qemu
from sansnet_cli.run.parser import parse
from sansnet_cli.serve.parser import parse as parse_serve
from sansnet_trio.sandbox import Mode
from sansnet_trio.sandbox.calls import named

COMMANDS = [
    (parse, ["true"]),
    (parse_attach, ["1"]),
    (parse_serve, ["--socket", "socket"]),
    (parse_qemu, ["--", "-m", "1G"]),
]


@pytest.mark.parametrize(("command", "words"), COMMANDS)
@pytest.mark.parametrize(
    ("options", "mode"),
    [
        ([], Mode.ENFORCE),
        (["--sandbox", "log"], Mode.LOG),
        (["--sandbox=enforce"], Mode.ENFORCE),
        (["--sandbox", "off"], Mode.OFF),
        (["--no-sandbox"], Mode.OFF),
        (["--no-sandbox", "--sandbox", "log"], Mode.LOG),
        (["--sandbox", "log", "--no-sandbox"], Mode.OFF),
    ],
)
def test_the_last_option_counts(
    command: Callable[[list[str]], Any], words: list[str], options: list[str], mode: Mode
) -> None:
    assert command([*options, *words]).sandbox is mode


def test_another_word_is_an_error() -> None:
    with pytest.raises(CommandLineError, match=r"--sandbox.* 'on' is none of enforce, log, off"):
        parse(["--sandbox", "on", "true"])


def compat(*words: str) -> Mode:
    return read(ParsedOptions("passt", words)).options.sandbox


def test_callers_of_passt_can_name_it_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SANSNET_SANDBOX", raising=False)
    assert compat() is Mode.ENFORCE
    assert compat("--sandbox", "off") is Mode.OFF
    monkeypatch.setenv("SANSNET_SANDBOX", "log")
    assert compat() is Mode.LOG
    assert compat("--sandbox", "off", "--sandbox", "enforce") is Mode.ENFORCE
    monkeypatch.setenv("SANSNET_SANDBOX", "")
    assert compat() is Mode.ENFORCE
    monkeypatch.setenv("SANSNET_SANDBOX", "no")
    with pytest.raises(Misuse, match=r"\$SANSNET_SANDBOX 'no' is none of enforce, log, off"):
        compat()


def test_ctl_shows_the_level() -> None:
    answer = {"guest": False, "sandbox": {"text": "only the system calls it needs, no files (Landlock 7)"}}

    assert show("counters", answer).splitlines() == [
        "there is no guest",
        "sandbox  only the system calls it needs, no files (Landlock 7)",
    ]
    assert show("counters", {"guest": False}) == "there is no guest"


LOGGED = (
    '[1.5] audit: type=1326 audit(1.2:3): auid=0 uid=0 gid=0 ses=0 pid=7 comm="sansnet" exe="/usr/bin/python3" '
    "sig=0 arch={} syscall={} compat=0 ip=0x7f code=0x7ffc0000\n"
)


def test_calls_in_the_kernels_log_get_their_names() -> None:
    log = [LOGGED.format("c000003e", 257)] * 2 + [
        LOGGED.format("c00000b7", 56),
        LOGGED.format("c000003e", 800),
        "other\n",
    ]

    assert list(named(log)) == ["2 sansnet openat", "1 sansnet openat", "1 sansnet system call 800 of c000003e"]


def test_calls_of_no_profile_have_names_too() -> None:
    log = [LOGGED.format("c000003e", 83), LOGGED.format("c00000b7", 117), LOGGED.format("c000003e", 425)]

    assert list(named(log)) == ["1 sansnet mkdir", "1 sansnet ptrace", "1 sansnet io_uring_setup"]


def test_the_log_of_auditd_is_read_too() -> None:
    line = LOGGED.replace("[1.5] audit: type=1326 audit", "type=SECCOMP msg=audit").format("c000003e", 59)

    assert list(named([line])) == ["1 sansnet execve"]


def test_a_log_without_such_calls_is_an_error() -> None:
    done = run([executable, "-m", "sansnet_trio.sandbox.calls"], input=b"other\n", capture_output=True, check=False)

    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"no line names a system call (type=1326, or type=SECCOMP); give it ")
