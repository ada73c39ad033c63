"""`sansnet run` as a process: exit statuses, signals, the terminal, and what is left behind."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.lab import GATEWAY4, HOST4, HOST6, RUN_SANSNET, SERVER4, USER, Guest, Lab, eventually
from tests.lab.namespaces import running
from tests.lab.processes import outside
from tests.lab.terminals import Terminal, terminal

SOON: Final = 4.0
"""Seconds that an end takes at most, on a busy machine too. A process that does not end by itself is killed after 5."""


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("exit 0", 0),
        ("exit 3", 3),
        ("exit 130", 130),
        ("kill -KILL $$", 128 + signal.SIGKILL),
        ("kill -TERM $$", 128 + signal.SIGTERM),
        ("kill -INT $$", 128 + signal.SIGINT),
        ("kill -PIPE $$", 128 + signal.SIGPIPE),
        ("ulimit -c unlimited; kill -ABRT $$", 128 + signal.SIGABRT),
    ],
)
def test_the_status_is_the_commands(lab: Lab, script: str, status: int, user: int | None) -> None:
    done = lab.sansnet([], ["sh", "-c", script], user=user)
    assert (done.returncode, done.stderr) == (status, "")


def test_the_status_is_the_commands_even_if_nobody_wanted_to_hear_of_children(lab: Lab) -> None:
    command = lab.host.command("env", "--ignore-signal=CHLD", *RUN_SANSNET, "--", "sh", "-c", "exit 3")
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (3, "")


def test_ctrl_c_ends_a_loop_around_sansnet(lab: Lab) -> None:
    run = shlex.join([*RUN_SANSNET, "--", "sh", "-c", "echo ready; exec sleep 60"])
    with terminal(lab.host.command("bash", "-c", f"for i in 1 2 3; do {run}; echo again; done")) as made:
        made.expect("ready")
        made.type("\x03")
        assert made.process.wait(10) == -signal.SIGINT
        assert "again" not in made.output


def test_a_command_that_is_missing_gives_127(lab: Lab) -> None:
    done = lab.sansnet([], ["no-such-program"])
    assert done.returncode == 127
    assert done.stderr.startswith("sansnet: ")
    assert "no-such-program" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_command_that_cannot_be_executed_gives_126(lab: Lab) -> None:
    file = lab.directory / "not-executable"
    file.write_text("")
    file.chmod(0o644)
    done = lab.sansnet([], [str(file)])
    assert done.returncode == 126
    assert done.stderr.startswith("sansnet: ")
    assert str(file) in done.stderr
    assert done.stderr.count("\n") == 1


def test_streams_of_the_command_are_sansnets_own(lab: Lab) -> None:
    command = lab.sansnet_command([], ["sh", "-c", "cat; echo error >&2"], user=None, before="")
    done = subprocess.run(command, input="through\n", text=True, capture_output=True, timeout=20, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("through\n", "error\n", 0)


def test_the_command_inherits_three_descriptors_and_ordinary_signals(lab: Lab) -> None:
    script = "ls /proc/self/fd | wc -l; grep -E '^Sig(Ign|Blk)' /proc/self/status"
    done = lab.sansnet([], ["sh", "-c", script])
    # ls has a fourth one, of the directory it reads
    assert done.stdout.split() == ["4", "SigBlk:", "0" * 16, "SigIgn:", "0" * 16]


@pytest.mark.parametrize("given", [[], ["LC_CTYPE=C"], ["LC_CTYPE="], ["LC_CTYPE=C.UTF-8"]])
def test_the_commands_locale_is_the_callers(lab: Lab, given: list[str]) -> None:
    command = lab.sansnet_command([], ["env"], user=None, before="")
    line = ["env", "-u", "LC_ALL", "-u", "LANG", "-u", "LC_CTYPE", *given, *command]
    index = line.index("LC_ALL=C.UTF-8")
    line[index : index + 1] = []
    done = subprocess.run(line, capture_output=True, text=True, timeout=20, check=True, stdin=subprocess.DEVNULL)
    assert [word for word in done.stdout.split() if word.startswith("LC_")] == given


def test_what_verbose_says_of_a_healthy_run_is_in_plain_words(lab: Lab) -> None:
    done = lab.sansnet(["-v", "-g", "2001:db8:1::7"], ["sleep", "0.2"])
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert f"sansnet: IPv4: {HOST4}/24, gateway {GATEWAY4}" in lines
    assert f"sansnet: IPv6: {HOST6}/64, gateway 2001:db8:1::7" in lines
    for jargon in ("uso", "tso", "checksum_offload", "wakeups", "not handled"):
        assert jargon not in done.stderr
    assert "dropped" not in done.stderr  # what every new interface sends is none
    done = lab.sansnet(["-v", "--no-config"], ["true"])
    assert f"sansnet: IPv6: {HOST6}/64, gateway fe80::1" in done.stderr.splitlines()


def test_verbose_says_between_whom_what_was_dropped_went(lab: Lab) -> None:
    send = "import socket; s = socket.socket(2, 2); s.bind(('', 4444)); s.sendto(b'x', ('240.0.0.1', 99))"
    done = lab.sansnet(["-v"], [sys.executable, "-c", send], user=USER)
    [line] = [line for line in done.stderr.splitlines() if "dropped" in line]
    assert line.startswith("sansnet: dropped: 1: ")
    assert line.endswith(f"; last: udp {HOST4}:4444 to 240.0.0.1:99")


def test_closed_streams_stay_closed_and_take_nothing_of_ours(lab: Lab) -> None:
    run = shlex.join([*RUN_SANSNET, "-i", "nosuch0", "--", "true"])
    done = lab.host.shell(f"{run} 2>&-", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    run = shlex.join([*RUN_SANSNET, "-v", "--", "sh", "-c", "ls -l /proc/self/fd | wc -l"])
    # the line of the total, stdout, and the directory that ls reads, which takes the place of one that is closed
    assert lab.host.shell(f"{run} <&- 2>&-").stdout == "3\n"


def test_a_stderr_that_takes_nothing_harms_nothing(lab: Lab) -> None:
    run = shlex.join([*RUN_SANSNET, "-v"])
    assert lab.host.shell(f"{run} -- echo done 2>/dev/full").stdout == "done\n"
    assert lab.host.shell(f"{run} -Z 2>/dev/full", check=False).returncode == 2


def test_the_command_keeps_its_limit_of_descriptors(lab: Lab) -> None:
    command = lab.sansnet_command([], ["sh", "-c", "ulimit -Sn"], user=None, before="")
    done = subprocess.run(
        ["prlimit", "--nofile=256:4096", "--", *command],
        text=True,
        capture_output=True,
        timeout=20,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert (done.stdout, done.stderr) == ("256\n", "")


def test_the_command_keeps_its_user_group_and_environment_and_has_no_capabilities(lab: Lab) -> None:
    script = "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map; grep -E '^Cap(Prm|Eff|Amb)' /proc/self/status"
    done = lab.sansnet([], ["sh", "-c", f"echo $HOME; {script}"], user=USER)
    user, none = str(USER), "0" * 16
    expected = [str(lab.directory), user, user, user, "0", "1", user, "0", "1"]
    expected += ["CapPrm:", none, "CapEff:", none, "CapAmb:", none]
    assert (done.stdout.split(), done.stderr) == (expected, "")


def test_the_commands_files_are_its_users_and_those_of_its_groups_can_be_read(lab: Lab) -> None:
    group = USER + 1
    directory = lab.directory / "of-a-group"
    directory.mkdir()
    secret = directory / "secret"
    secret.write_text("of the group\n")
    os.chown(secret, 0, group)
    secret.chmod(0o040)
    os.chown(directory, USER, USER)
    command = lab.sansnet_command([], ["sh", "-c", f"cat {secret} && touch {directory}/made"], user=USER, before="")
    with_group = [f"--groups={group}" if word == "--clear-groups" else word for word in command]
    done = subprocess.run(with_group, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "of the group\n", "")
    made = (directory / "made").stat()
    assert (made.st_uid, made.st_gid) == (USER, USER)


def test_an_ordinary_user_binds_low_ports_and_changes_nothing_of_the_network(lab: Lab) -> None:
    script = """
import itertools, socket, subprocess
for (family, address), kind in itertools.product([(2, "127.0.0.1"), (10, "::1")], [1, 2]):
    socket.socket(family, kind).bind((address, 80))
print(subprocess.run(["ip", "link", "set", "lo", "down"], capture_output=True, text=True).stderr)
"""
    done = lab.sansnet([], [sys.executable, "-c", script], user=USER)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "RTNETLINK answers: Operation not permitted", "")


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
def test_root_is_root_of_the_guest(lab: Lab, user: int | None) -> None:
    for options in [["--root"]] if user else [["--root"], []]:
        done = lab.sansnet(options, ["sh", "-c", "id -u; ip link set lo down && cat /proc/self/uid_map"], user=user)
        [number, *mapping] = done.stdout.split()
        assert (number, done.stderr, done.returncode) == ("0", "", 0)
        assert mapping == (["0", str(USER), "1"] if user else ["0", "0", str(2**32 - 1)])


@contextmanager
def waiting(lab: Lab, script: str, user: int | None = None) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`sansnet run` of a shell script that printed a line, and the process id of the shell."""
    command = lab.sansnet_command([], ["sh", "-c", f"echo $$; {script}"], user=user, before="")
    with running(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        yield process, outside(process.pid, int(process.stdout.readline()))


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_ends_sansnet_and_the_command(lab: Lab, number: signal.Signals, user: int | None) -> None:
    with waiting(lab, "exec sleep 60", user) as (process, pid):
        process.send_signal(number)
        output, errors = process.communicate(timeout=SOON)
        assert (process.returncode, output, errors) == (128 + number, "", "")
        assert gone(pid)


def test_a_command_may_handle_a_signal(lab: Lab) -> None:
    script = "trap 'echo bye; exit 7' TERM; echo set; while :; do sleep 0.05; done"
    with waiting(lab, script) as (process, _):
        assert process.stdout is not None
        assert process.stdout.readline() == "set\n"
        process.terminate()
        output, errors = process.communicate(timeout=10)
        assert (process.returncode, output, errors) == (7, "bye\n", "")


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
def test_the_command_does_not_outlive_sansnet(lab: Lab, user: int | None) -> None:
    with waiting(lab, "exec sleep 60", user) as (process, pid):
        process.kill()
        process.wait(5)
        assert eventually(lambda: gone(pid))


def test_the_commands_death_ends_sansnet_at_once(lab: Lab) -> None:
    with waiting(lab, "exec sleep 60") as (process, pid):
        os.kill(pid, signal.SIGKILL)
        assert process.wait(SOON) == 128 + signal.SIGKILL


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
def test_what_the_command_left_in_the_background_ends_with_it(lab: Lab, user: int | None) -> None:
    with waiting(lab, "sleep 60 & echo $!; sleep 1", user) as (process, _):
        assert process.stdout is not None
        left = outside(process.pid, int(process.stdout.readline()))
        process.communicate(timeout=1 + SOON)  # until no process has the pipe open
        assert process.returncode == 0
        assert eventually(lambda: gone(left))


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
def test_a_signal_ends_what_a_shell_started_too(lab: Lab, user: int | None) -> None:
    with waiting(lab, "sh -c 'echo $$; exec sleep 60'; :", user) as (process, _):
        assert process.stdout is not None
        child = outside(process.pid, int(process.stdout.readline()))
        process.terminate()
        process.communicate(timeout=10)
        assert eventually(lambda: gone(child))


def test_what_ignores_the_polite_signal_is_killed(lab: Lab) -> None:
    script = "setsid sh -c 'trap \"\" TERM; echo $$; while :; do sleep 1; done' & sleep 1"
    with waiting(lab, script) as (process, _):
        assert process.stdout is not None
        child = outside(process.pid, int(process.stdout.readline()))
        process.communicate(timeout=10)
        assert eventually(lambda: gone(child))


def test_what_is_left_may_say_goodbye_and_still_has_a_network(lab: Lab) -> None:
    goodbye = f"trap 'ping -c1 -W2 {SERVER4} | grep packet; exit' TERM; echo set; while :; do sleep 0.05; done"
    command = lab.sansnet_command([], ["sh", "-c", f"({goodbye}) & sleep 0.3"], user=None, before="")
    done = subprocess.run(command, text=True, capture_output=True, timeout=20, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0
    assert " 0% packet loss" in done.stdout


def test_a_guest_whose_interface_goes_ends_with_one_sentence(lab: Lab) -> None:
    with waiting(lab, "ip link delete dev uplink; exec sleep 60") as (process, pid):
        _, errors = process.communicate(timeout=10)
        assert process.returncode not in (0, None)
        assert errors.startswith("sansnet: ")
        assert errors.count("\n") == 1
        assert eventually(lambda: gone(pid))


def test_nothing_is_left_behind(lab: Lab) -> None:
    temporary = Path(lab.directory, "temporary")  # other programs use /tmp meanwhile
    temporary.mkdir()
    temporary.chmod(0o1777)

    def state() -> list[str]:
        lines = lab.host.shell("findmnt --noheadings --raw --output TARGET; ip -br link").stdout.splitlines()
        return [*sorted(line for line in lines if "sansnet-lab" not in line), *os.listdir(temporary)]

    before = state()
    for command, user in ((["true"], None), (["no-such-program"], None), (["true"], USER)):
        lab.sansnet([], command, user=user, env={**os.environ, "TMPDIR": str(temporary)})
    assert state() == before


@contextmanager
def sansnet_terminal(lab: Lab, *command: str, user: int | None = None) -> Iterator[Terminal]:
    with terminal(lab.sansnet_command([], list(command), user=user, before="")) as made:
        yield made


def test_ctrl_c_interrupts_the_command_once(lab: Lab) -> None:
    script = "trap 'count=$((count+1))' INT; echo ready; sleep 1; sleep 1; echo count $count; exit 5"
    with sansnet_terminal(lab, "bash", "-c", script) as made:
        made.expect("ready")
        made.type("\x03")
        made.expect("count 1")
        assert made.process.wait(10) == 5


def test_ctrl_c_ends_a_command_that_does_not_handle_it(lab: Lab) -> None:
    with sansnet_terminal(lab, "sh", "-c", "echo ready; exec sleep 60") as made:
        made.expect("ready")
        made.type("\x03")
        assert made.process.wait(SOON) == -signal.SIGINT
        assert "Traceback" not in made.output


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
def test_an_interactive_shell_has_job_control(lab: Lab, user: int | None) -> None:
    with sansnet_terminal(lab, "bash", "--norc", "-i", user=user) as made:
        made.type("PS1=; tty >/dev/null && echo on-a-$((1+1))-terminal\n")
        made.expect("on-a-2-terminal")
        made.type("sh -c 'echo be$((1))gun; exec sleep 60'\n")
        made.expect("be1gun")  # so the job is in the foreground, and Ctrl-Z is for it
        made.type("\x1a")
        made.expect("Stopped")
        # bash does not exit while a job is stopped. `wait` would return at once if bash has not seen the job's end yet
        made.type("kill %1; fg %1; echo st$((1+1))ll here\n")
        made.expect("st2ll here")
        assert "no job control" not in made.output
        made.type("exit 9\n")
        assert made.process.wait(10) == 9


def test_a_stopped_run_goes_on_in_the_foreground(lab: Lab) -> None:
    run = shlex.join([*RUN_SANSNET, "--", "sh", "-c", "echo be$((1))gun; exec sleep 3"])
    with terminal(lab.host.command("bash", "--norc", "-i")) as made:
        made.type(f"PS1=; {run}\n")
        made.expect("be1gun")
        made.type("\x1a")
        made.expect("Stopped")
        made.type("fg; echo resumed-$?\n")
        made.expect("resumed-0")
        made.type("exit\n")
        assert made.process.wait(10) == 0


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
@pytest.mark.parametrize(
    "inner",
    [RUN_SANSNET, [*RUN_SANSNET, "--root"], ["unshare", "--map-root-user"]],
    ids=["run", "run --root", "unshare"],
)
def test_a_guest_may_have_guests(lab: Lab, user: int | None, inner: Sequence[str]) -> None:
    done = lab.sansnet([], [*inner, "--", "ping", "-c1", "-W5", SERVER4], user=user)
    assert done.stderr == ""
    assert " 0% packet loss" in done.stdout


@pytest.mark.parametrize("tool", [["traceroute", "-I", "-n"], ["mtr", "-r", "-c1", "-n"]], ids=lambda tool: tool[0])
def test_an_ordinary_users_tools_need_no_raw_sockets(lab: Lab, tool: list[str]) -> None:
    done = lab.sansnet([], [*tool, SERVER4], user=USER)
    assert (done.returncode, done.stderr.count("rror")) == (0, 0)
    assert SERVER4 in done.stdout.splitlines()[-1]


def test_traffic_at_the_moment_of_an_interrupt_makes_no_noise(lab: Lab, guest: Guest) -> None:
    with lab.upstream.listen(SERVER4) as listener:
        port = listener.getsockname()[1]
        fetch = f"while :; do curl -s -m 1 http://{SERVER4}:{port}/ >/dev/null; done"
        with waiting(lab, fetch) as (process, _):
            time.sleep(1)
            process.terminate()
            _, errors = process.communicate(timeout=10)
            assert "Traceback" not in errors
            assert "Warning" not in errors
