"""The audit, the summary and the learnt policy of real guests."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from sansnet_core.policy import load_policy
from tests.kernel.test_attach import attached
from tests.kernel.test_control import asked, ctl, path
from tests.kernel.test_policy_options import INSIDE, OTHER, OTHER4, PACKAGES, PACKAGES6, PORT, World, world
from tests.lab import Lab, eventually
from tests.lab.callers import Caller
from tests.lab.namespaces import held_namespace, running

__all__ = ["path", "world"]

ALLOWED: Final = ("--allow", f"{PACKAGES}:{PORT}")
RULE: Final = f"allow out tcp {PACKAGES}:{PORT}"

FLOOD: Final = """
import socket, sys
server = [line.split()[1] for line in open("/etc/resolv.conf") if line.startswith("nameserver")][0]
family = socket.AF_INET6 if ":" in server else socket.AF_INET
asking = socket.socket(family, socket.SOCK_DGRAM)
asking.settimeout(1)
for number in range(2000):
    name = b"".join(bytes((len(part),)) + part for part in (b"%d" % number, b"secret", b"test"))
    query = number.to_bytes(2, "big") + bytes.fromhex("01000001000000000000") + name + bytes.fromhex("0000010001")
    asking.sendto(query, (server, 53))
    try:
        asking.recv(1000)
    except TimeoutError:
        pass
"""
"""Questions for 2000 names, as fast as they are answered."""


@pytest.fixture
def directory(lab: Lab) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=lab.directory) as name:
        yield Path(name)


def fetching(*hosts: str) -> list[str]:
    """A command that fetches a page from each host, and ignores failures."""
    urls = (f"http://{f'[{host}]' if ':' in host else host}:{PORT}/" for host in hosts)
    return ["sh", "-c", "; ".join(f"curl -sS -m 20 {url}" for url in urls)]


def entries(file: Path) -> list[dict[str, Any]]:
    data = file.read_bytes()
    assert data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines()]


def summary(done: subprocess.CompletedProcess[str]) -> str:
    """The last line on stderr."""
    return done.stderr.splitlines()[-1].removeprefix("sansnet: ")


def test_the_audit_has_each_decision_and_the_bytes(world: World, directory: Path) -> None:
    file = directory / "audit.jsonl"
    done = world.lab.sansnet([*ALLOWED, "--audit", str(file)], fetching(PACKAGES, OTHER, OTHER4, PACKAGES6))
    assert done.stdout == "welcome\n"
    found = entries(file)
    assert [found[0]["kind"], found[-1]["kind"]] == ["start", "end"]
    assert len({one["pid"] for one in found}) == 1

    questions = {
        (one["name"], one["type"], one["verdict"], one.get("rule")) for one in found if one["kind"] == "question"
    }
    assert questions >= {(PACKAGES, "A", "allow", RULE), (PACKAGES, "AAAA", "allow", RULE)}
    assert {one[2:] for one in questions if one[0] == OTHER} == {("refuse", None)}

    (opened,) = (one for one in found if one["kind"] == "flow" and one["verdict"] == "allow")
    assert (opened["name"], opened["port"], opened["protocol"], opened["rule"]) == (PACKAGES, PORT, "tcp", RULE)
    ends = [one for one in found if one["kind"] in ("closed", "open") and one["flow"] == opened["flow"]]
    assert [one["received"] for one in ends] == [len("HTTP/1.0 200 OK\r\n\r\nwelcome\n")]
    refused = {one["address"]: one for one in found if one["kind"] == "flow" and one["verdict"] == "refuse"}
    assert set(refused) == {OTHER4, PACKAGES6}
    assert all((one["errno"], one["reason"]) == ("EACCES", "REFUSED") for one in refused.values())


def test_the_summary_counts_names_and_lists_refusals(world: World) -> None:
    done = world.lab.sansnet([*ALLOWED], fetching(PACKAGES, OTHER, OTHER4, OTHER4))
    expected = f"reached 1 name, refused 2: {OTHER}, tcp {OTHER4}:{PORT}; "
    assert summary(done).startswith(expected), done.stderr


def test_without_a_policy_there_is_no_summary(world: World) -> None:
    assert world.lab.sansnet([], ["curl", "-sS", f"http://{PACKAGES}:{PORT}/"]).stderr == ""


def test_the_learnt_policy_allows_the_same_and_nothing_else(world: World, directory: Path) -> None:
    file = directory / "policy.toml"
    used = (PACKAGES, INSIDE, OTHER4, PACKAGES6)
    learning = world.lab.sansnet(["--learn", str(file)], fetching(*used))
    assert learning.stdout == "welcome\n" * len(used), learning.stderr
    policy = load_policy(file.read_text()).policy
    assert sorted(name for rule in policy.rules for name in rule.names) == [INSIDE, PACKAGES]
    assert "No name was looked up for this address (public)." in file.read_text()
    again = world.lab.sansnet(["--policy", str(file)], fetching(*used))
    assert again.stdout == "welcome\n" * len(used), again.stderr
    assert "refused 0;" in summary(again)
    others = world.lab.sansnet(["--policy", str(file)], fetching(OTHER))
    assert others.stdout == ""
    assert f"refused 1: {OTHER};" in summary(others)
    assert sorted(os.listdir(directory)) == ["policy.toml"]


def test_what_was_learnt_is_written_when_a_signal_ends_the_command(world: World, directory: Path) -> None:
    file = directory / "policy.toml"
    command = ["sh", "-c", f"curl -sS http://{PACKAGES}:{PORT}/; echo done; sleep 60"]
    line = world.lab.sansnet_command(["--learn", str(file)], command, user=None, before="")
    with running(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "done\n":
            assert process.poll() is None
        assert not file.exists()
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    assert f'to = "{PACKAGES}"' in file.read_text()


def test_a_killed_process_leaves_whole_lines_and_no_half_policy(world: World, directory: Path) -> None:
    audit, learnt = directory / "audit.jsonl", directory / "policy.toml"
    learnt.write_text("# the old one\n")
    command = ["sh", "-c", f"curl -sS http://{PACKAGES}:{PORT}/; echo done; sleep 60"]
    options = ["--audit", str(audit), "--learn", str(learnt)]
    line = world.lab.sansnet_command(options, command, user=None, before="")
    with running(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "done\n":
            assert process.poll() is None
        process.kill()
        process.wait(20)
    found = entries(audit)
    assert found[-1]["kind"] != "end"
    assert any(one.get("name") == PACKAGES for one in found)
    assert learnt.read_text() == "# the old one\n"


def test_attach_writes_both_at_the_end(world: World, directory: Path) -> None:
    audit, learnt = directory / "audit.jsonl", directory / "policy.toml"
    with (
        held_namespace() as namespace,
        attached(world.lab, str(namespace.pid), "--audit", str(audit), "--learn", str(learnt)) as process,
    ):
        assert namespace.run("curl", "-sS", "-m", "20", f"http://{OTHER4}:{PORT}/").stdout == "welcome\n"
        assert eventually(lambda: any(one["kind"] == "flow" for one in entries(audit)))
        process.process.send_signal(signal.SIGTERM)
        process.process.wait(20)
        assert process.process.stderr is not None
        assert "sansnet: reached 1 address, refused 0;" in process.process.stderr.read()
    assert entries(audit)[-1]["kind"] == "end"
    assert f'to = "{OTHER4}"' in learnt.read_text()


def test_a_flood_of_refused_lookups_does_not_fill_the_disk(world: World, directory: Path) -> None:
    file = directory / "audit.jsonl"
    done = world.lab.sansnet([*ALLOWED, "--audit", str(file)], ["python3", "-c", FLOOD])
    assert done.returncode == 0, done.stderr
    found = entries(file)
    lines = [one for one in found if one["kind"] == "question"]
    sums = [one for one in found if one["kind"] == "omitted"]
    assert len(lines) <= 100 * (len(sums) + 1)
    omitted = sum(one.get("refused_questions", 0) + one.get("unreported", 0) for one in sums)
    assert omitted + len(lines) >= 2000
    assert len(found) < 1500
    assert "refused " in summary(done)


def test_the_summary_is_there_while_the_command_runs(world: World, path: Path) -> None:
    with world.lab.guest("-c", str(path), *ALLOWED, warning="reached 1 name") as guest:
        assert guest.run("curl", "-sS", "-m", "20", f"http://{PACKAGES}:{PORT}/").stdout == "welcome\n"
        guest.run("curl", "-sS", "-m", "20", f"http://{OTHER4}:{PORT}/", check=False)
        found = asked(world.lab, path, "audit")
        assert [(one["name"], one["port"]) for one in found["reached"]] == [(PACKAGES, PORT)]
        assert [(one["address"], one["flows"]) for one in found["refused"]] == [(OTHER4, 1)]
        shown = ctl(world.lab, path, "audit").stdout.splitlines()
        assert shown[0].startswith(f"reached 1 name, refused 1: tcp {OTHER4}:{PORT};")
        assert any(line.startswith(f"reached: tcp {PACKAGES}:{PORT} (1 flow,") for line in shown)


def test_the_audit_may_go_to_stderr_or_to_a_file_that_other_runs_use(world: World, directory: Path) -> None:
    done = world.lab.sansnet([*ALLOWED, "--audit", "/dev/stderr"], fetching(OTHER4))
    # curl writes a line in several pieces, between which one of ours may come
    kinds = re.findall('"kind":"([a-z]+)"', done.stderr)
    assert kinds == ["start", "flow", "end"]
    file = directory / "audit.jsonl"
    for _ in range(2):
        world.lab.sansnet([*ALLOWED, "--audit", str(file)], fetching(OTHER4))
    found = entries(file)
    assert [one["kind"] for one in found] == ["start", "flow", "end"] * 2
    assert len({one["pid"] for one in found}) == 2


def test_a_file_ends_at_the_size_of_the_option(world: World, directory: Path) -> None:
    file = directory / "audit.jsonl"
    options = [*ALLOWED, "--audit", str(file), "--audit-size", "4096"]
    done = world.lab.sansnet(options, fetching(*[OTHER4] * 30))
    assert entries(file)[-1]["kind"] == "full"
    assert file.stat().st_size <= 4096
    assert done.stderr.count("the audit ends here") == 1
    assert f"refused 1: tcp {OTHER4}:{PORT};" in summary(done)


@pytest.mark.parametrize("option", ["--audit", "--learn"])
def test_a_file_that_cannot_be_written_is_reported_before_the_command_starts(world: World, option: str) -> None:
    done = world.lab.sansnet([option, "/proc/nothing"], ["echo", "started"])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert f"the file /proc/nothing of {option} cannot be written" in done.stderr


def test_a_disk_that_is_full_is_reported_once_and_the_command_goes_on(world: World) -> None:
    done = world.lab.sansnet([*ALLOWED, "--audit", "/dev/full"], fetching(PACKAGES, PACKAGES))
    assert done.stdout == "welcome\n" * 2
    assert done.stderr.count("lines of the audit are lost") == 1
    assert summary(done).startswith("reached 1 name, refused 0;")


def test_pasta_writes_an_audit(world: World, directory: Path) -> None:
    file = directory / "audit.jsonl"
    caller = Caller(world.lab, directory)
    done = caller.call("pasta", "--config-net", "--audit", str(file), "--", *fetching(OTHER4))
    assert "welcome" in done.output
    assert [one["address"] for one in entries(file) if one["kind"] == "flow"] == [OTHER4]
