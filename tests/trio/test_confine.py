"""Confining a process, on this kernel and on kernels that lack something. The tests confine processes of their own."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct
import subprocess
import sys
import textwrap
from typing import Final

import pytest

from sansnet_trio.sandbox import Level, Mode, Profile, landlock, profiles, seccomp
from sansnet_trio.sandbox.profile import OWN_GROUP, OWN_PROCESS
from sansnet_trio.sandbox.system_calls import ARCHITECTURES, NUMBERS

ALL: Final = (
    profiles.main(),
    profiles.main(set(profiles.Feature)),
    *(profiles.main({feature}) for feature in profiles.Feature),
    profiles.BROKER,
    profiles.REAPER,
    profiles.RESIDENT,
    profiles.SOCKET_AGENT,
)

_BEFORE: Final = """
import ctypes, os, struct, sys
from sansnet_trio.sandbox import Mode, confine, profiles
libc = ctypes.CDLL(None, use_errno=True)

def forbid(number, code):
    '''Let a system call fail from now on, as in a container, or on a kernel without it.'''
    libc.prctl(38, 1, 0, 0, 0)
    jumps = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x50000 | code), (0x06, 0, 0, 0x7FFF0000)]
    code = b"".join(struct.pack("=HBBI", *jump) for jump in jumps)
    program = struct.pack("@HP", len(jumps), ctypes.cast(ctypes.c_char_p(code), ctypes.c_void_p).value)
    assert libc.prctl(22, 2, program, 0, 0) == 0

def state(name):
    for line in open("/proc/self/status"):
        if line.startswith(name + ":"):
            return line.split()[1]
"""


def confined(script: str, *, status: int = 0) -> list[str]:
    """Run a script that confines itself, and return the lines that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", _BEFORE + textwrap.dedent(script)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (status, "")
    return done.stdout.splitlines()


# the levels


def test_a_confined_process_opens_no_file_and_the_level_says_so() -> None:
    lines = confined("""
        level = confine(profiles.main())
        print(level, flush=True)
        for path in ("/dev/null", "/proc/self/status", sys.executable):
            try:
                open(path)
            except PermissionError as error:
                print(error.strerror)
    """)

    assert lines[0].startswith("only the system calls it needs, no files (Landlock ")
    assert lines[1:] == ["Permission denied"] * 3


def test_the_kernel_ends_it_at_any_other_system_call() -> None:
    assert confined("confine(profiles.main()); os.fork()", status=-signal.SIGSYS) == []


def test_it_gains_no_privileges_and_is_not_dumpable() -> None:
    lines = confined("""
        status = open("/proc/self/status")
        confine(profiles.main())
        fields = dict(line.split(":", 1) for line in status)
        print(*(fields[name].strip() for name in ("NoNewPrivs", "Seccomp")))
        print(libc.prctl(4, 0, 0, 0, 0), libc.prctl(4, 1, 0, 0, 0))  # PR_SET_DUMPABLE
    """)

    assert lines == ["1 2", "0 -1"]


def test_off_changes_nothing() -> None:
    lines = confined("""
        print(confine(profiles.main(), Mode.OFF), state("NoNewPrivs"), state("Seccomp"))
    """)

    assert lines == ["off 0 0"]


def test_logging_refuses_nothing() -> None:
    lines = confined("""
        level = confine(profiles.SOCKET_AGENT, Mode.LOG)
        print(level, state("Seccomp"))
        if os.fork() == 0:
            os._exit(7)
        print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
    """)

    assert lines == ["other system calls than it needs are logged, any file 2", "7"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSYS, "the kernel has none (Linux 5.13)"),
        (errno.EOPNOTSUPP, "the kernel was started without it (lsm=)"),
        (errno.EPERM, "something forbids it, such as a container"),
        (errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_without_landlock_system_calls_are_filtered(code: int, reason: str) -> None:
    lines = confined(f"""
        forbid(444, {code})
        print(confine(profiles.main()), flush=True)
        try:
            open("/dev/null")
        except PermissionError:
            print("refused")
    """)

    assert lines == [f"only the system calls it needs, any file; Landlock: {reason}", "refused"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSYS, "not for this kernel or processor"),
        (errno.EINVAL, "the kernel was built without filters"),
        (errno.EPERM, "something forbids it, such as a container"),
    ],
)
def test_without_filters_files_are_closed(code: int, reason: str) -> None:
    number, _ = NUMBERS["seccomp"]
    lines = confined(f"""
        forbid({number}, {code})
        print(confine(profiles.main()), flush=True)
        try:
            open("/dev/null")
        except PermissionError:
            print("refused")
        os._exit(3 if os.fork() else 0)
    """, status=3)  # fmt: skip

    assert len(lines) == 2
    assert lines[0].startswith("any system call, no files (Landlock ")
    assert lines[0].endswith(f"; seccomp: {reason}")
    assert lines[1] == "refused"


def test_without_both_it_goes_on() -> None:
    number, _ = NUMBERS["seccomp"]
    lines = confined(f"""
        forbid(444, {errno.ENOSYS})
        forbid({number}, {errno.ENOSYS})
        print(confine(profiles.main()))
    """)

    assert lines == [
        "any system call, any file; Landlock: the kernel has none (Linux 5.13); "
        "seccomp: not for this kernel or processor"
    ]


def test_without_the_promise_of_no_new_privileges_it_goes_on() -> None:
    lines = confined(f"""
        number = 157 if os.uname().machine == "x86_64" else 167  # prctl
        forbid(number, {errno.EPERM})
        print(confine(profiles.main()))
    """)

    assert lines == ["any system call, any file; no_new_privs: Operation not permitted"]


def test_another_processor_has_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "", "", "", "riscv64")))

    with pytest.raises(OSError, match="no filter for riscv64") as caught:
        seccomp.install(profiles.main(), Mode.ENFORCE)
    assert caught.value.errno == errno.ENOSYS


# the filter


def test_system_calls_of_later_kernels_do_not_exist() -> None:
    """The C library tries them first, and uses older ones then."""
    lines = confined("""
        confine(profiles.main())
        for number in (470, 500, 4095):
            print(libc.syscall(ctypes.c_long(number)), ctypes.get_errno())
    """)

    assert lines == [f"-1 {errno.ENOSYS}"] * 3


def test_threads_are_filtered_too() -> None:
    lines = confined("""
        import threading
        begin, results = threading.Event(), []

        def work():
            begin.wait()
            try:
                open("/dev/null")
            except PermissionError:
                results.append("refused")

        thread = threading.Thread(target=work)
        thread.start()
        print(confine(profiles.main()).missing)
        begin.set()
        thread.join()
        print(*results)
    """)

    assert lines == ["()", "refused"]


def test_confining_costs_little() -> None:
    lines = confined("""
        import time
        reader, writer = os.pipe()
        for _ in range(15):
            if os.fork() == 0:
                times = [time.process_time()]
                sum(n * n for n in range(20_000))
                times.append(time.process_time())
                confine(profiles.main(profiles.Feature))
                times.append(time.process_time())
                os.write(writer, b"%.2f\\n" % ((times[2] - times[1]) / (times[1] - times[0])))
                os._exit(0)
            os.wait()
        print(min(map(float, os.read(reader, 999).split())))
    """)

    assert float(lines[0]) < 5  # times a loop that takes about half a millisecond; a busy machine slows both


@pytest.mark.parametrize("machine", ARCHITECTURES)
@pytest.mark.parametrize("profile", ALL, ids=lambda profile: profile.name)
def test_the_program_of_each_profile_is_valid(profile: Profile, machine: str) -> None:
    """Jumps lead forward to instructions of the program, and the last instruction returns."""
    for mode in (Mode.ENFORCE, Mode.LOG):
        code = seccomp.make_program(profile, mode, machine, {OWN_PROCESS: 1, OWN_GROUP: -1})
        instructions = list(struct.iter_unpack("=HBBI", code))
        assert len(instructions) < 4096  # BPF_MAXINSNS
        assert instructions[-1][0] == 0x06
        for position, (kind, if_true, if_false, _) in enumerate(instructions):
            if kind in (0x15, 0x35):
                assert position + 1 + max(if_true, if_false) < len(instructions)


@pytest.mark.parametrize("profile", ALL, ids=lambda profile: profile.name)
def test_each_profile_says_why(profile: Profile) -> None:
    assert all(group.reason and group.rules for group in profile.groups)
    named = {rule.call for group in profile.groups for rule in group.rules} | set(profile.refused)
    assert named <= set(NUMBERS)


# Landlock


@pytest.mark.parametrize(
    ("version", "files", "network", "scopes"),
    [
        (1, 13, 0, 0),
        (2, 14, 0, 0),
        (3, 15, 0, 0),
        (4, 15, 3, 0),
        (5, 16, 3, 0),
        (6, 16, 3, 3),
        (7, 16, 3, 3),
        (99, 16, 3, 3),
    ],
)
def test_each_version_of_landlock_is_used_as_far_as_it_goes(
    monkeypatch: pytest.MonkeyPatch, version: int, files: int, network: int, scopes: int
) -> None:
    made: list[tuple[int, ...]] = []

    def call(name: str, *arguments: int | bytes | None) -> int:
        match arguments:
            case (None, 0, 1):
                return version
            case (bytes() as attributes, 24, 0):
                made.append(struct.unpack("=QQQ", attributes))
                return os.open(os.devnull, os.O_RDONLY)
        return 0

    monkeypatch.setattr(landlock, "_call", call)

    assert landlock.restrict(Profile(name="test", groups=())) == version
    assert landlock.restrict(Profile(name="test", groups=(), signals=True, connects=True)) == version
    limited = ((1 << files) - 1, 0, scopes & 1)
    assert made == [((1 << files) - 1, network, scopes), limited]


def test_a_profile_without_limits_on_files_does_not_use_landlock(monkeypatch: pytest.MonkeyPatch) -> None:
    def call(*_: object) -> int:
        raise AssertionError

    monkeypatch.setattr(landlock, "_call", call)

    assert landlock.restrict(Profile(name="test", groups=(), files=None)) == 0


def test_files_below_a_path_can_be_allowed() -> None:
    lines = confined("""
        from sansnet_core.records import replace
        from sansnet_trio.sandbox import landlock
        from sansnet_trio.linux.privileges import forbid_new_privileges
        forbid_new_privileges()
        paths = {"/etc": landlock.READ, "/nowhere": landlock.READ}
        landlock.restrict(replace(profiles.main(), files=paths))
        open("/etc/passwd").close()
        for path, flags in (("/etc/passwd", os.O_WRONLY), ("/usr", os.O_RDONLY), ("/proc/self/maps", os.O_RDONLY)):
            try:
                os.close(os.open(path, flags))
            except PermissionError:
                print(path)
    """)

    assert lines == ["/etc/passwd", "/usr", "/proc/self/maps"]


def test_no_abstract_socket_of_others_can_be_reached() -> None:
    version = ctypes.CDLL(None).syscall(444, 0, 0, 1)
    if version < 6:
        pytest.skip(f"Landlock {version} of this kernel has no scopes")
    lines = confined("""
        import socket
        from sansnet_trio.sandbox import landlock
        from sansnet_trio.linux.privileges import forbid_new_privileges
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(b"\\0sansnet-test-%d" % os.getpid())
        listener.listen()
        forbid_new_privileges()
        if os.fork() == 0:
            landlock.restrict(profiles.main())
            try:
                socket.socket(socket.AF_UNIX).connect(listener.getsockname())
            except PermissionError:
                print("refused", flush=True)
            os._exit(0)
        os.wait()
    """)

    assert lines == ["refused"]


# the text


@pytest.mark.parametrize(
    ("level", "text"),
    [
        (Level(), "off"),
        (Level(seccomp=Mode.ENFORCE, landlock=7, files=False), "only the system calls it needs, no files (Landlock 7)"),
        (Level(seccomp=Mode.ENFORCE, landlock=7), "only the system calls it needs, some files (Landlock 7)"),
        (Level(seccomp=Mode.ENFORCE, missing=("a", "b")), "only the system calls it needs, any file; a; b"),
    ],
)
def test_a_level_is_one_line(level: Level, text: str) -> None:
    assert str(level) == text


# calls of C libraries and Pythons that are not those of this machine


@pytest.mark.parametrize("profile", ["main()", "BROKER", "REAPER", "RESIDENT", "SOCKET_AGENT"])
def test_memory_for_random_numbers_is_allowed(profile: str) -> None:
    """getrandom(3) of glibc 2.41 and newer maps it with MAP_DROPPABLE, which Linux has since 6.11."""
    lines = confined(f"""
        confine(profiles.{profile})
        libc.mmap(None, ctypes.c_size_t(4096), 3, 0x28, -1, ctypes.c_long(0))
        print("goes on")
    """)

    assert lines == ["goes on"]


def test_a_fork_of_the_broker_with_musl() -> None:
    """Its fork(3) calls set_tid_address(2) in the child."""
    number = NUMBERS["set_tid_address"][ARCHITECTURES[os.uname().machine][1]]
    lines = confined(f"""
        confine(profiles.BROKER)
        if os.fork() == 0:
            libc.syscall({number}, None)
            os._exit(7)
        print(os.waitstatus_to_exitcode(os.wait()[1]))
    """)

    assert lines == ["7"]


def test_python_makes_no_code_for_perf_any_more() -> None:
    """PYTHONPERFSUPPORT of Python 3.12 and newer makes memory executable, which the filter forbids."""
    lines = confined("""
        sys.deactivate_stack_trampoline = lambda: print("off")
        confine(profiles.main(), Mode.OFF)
        confine(profiles.main())
    """)

    assert lines == ["off"]


def test_a_python_that_compiles_code_while_it_runs_has_no_filter() -> None:
    """Its memory must become executable: with a filter, the kernel would end it at any time (PYTHON_JIT of 3.14)."""
    lines = confined("""
        import types
        sys._jit = types.SimpleNamespace(is_enabled=lambda: True)
        print(confine(profiles.main()), libc.mprotect(None, 0, 4))
    """)

    assert len(lines) == 1
    assert lines[0].startswith("any system call, no files (Landlock ")
    assert lines[0].endswith("seccomp: this Python compiles code while it runs; set PYTHON_JIT=0 0")
