"""The command `sansnet`, whose processes are copied when they are confined. Each copy makes one attack.

Theory of operation. A process that is confined cannot start another one, and most attacks end it. So `confine` is
replaced here, before anything imports it: a child forks one copy of the process after the other, as it was at that
moment, with the same descriptors, privileges and memory. Each copy is confined exactly as the process itself, and makes
one attack. The process itself is confined and goes on; nothing waits for the child, which writes the results to
a file, and how each attack ended.
"""

from __future__ import annotations

import ctypes
import gc
import json
import mmap
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, NoReturn, TypeAlias

import sansnet_trio.sandbox
from sansnet_cli.main import main
from sansnet_trio.sandbox import Level, Mode, Profile
from tests.kernel.sandbox.attacks import ATTACKS, Attack
from tests.kernel.sandbox.world import Slot, StoppedError, World

__all__ = ["command", "outcomes", "run"]

Confine: TypeAlias = Callable[[Profile, Mode], Level]

_ROOT: Final = Path(__file__).parents[3]
_LIMIT: Final = 10
"""Seconds that an attack may take."""
_WHOLE_LIMIT: Final = 110
"""Seconds that all of them may take."""


def command(directory: Path, program: str) -> list[str]:
    """The head of a command line that runs the command in this way; its arguments follow.

    Args:
        directory: gets the results; everybody may write there.
        program: `sansnet`, `pasta` or `passt`.
    """
    script = f"import sys; sys.path.insert(0, {str(_ROOT)!r}); from {__name__} import run; run()"
    return [sys.executable, "-W", "error", "-P", "-c", script, str(directory), program]


def outcomes(directory: Path, process: str) -> Path:
    """The file with the results of a process; it is there when all attacks have ended.

    It is a JSON list of triples: the aim of an attack, its name, and `killed`, `done` or the name of an errno.

    Args:
        directory: as for `command`.
        process: the name of its profile.
    """
    return directory / f"{process}.json"


def _confine(real: Confine, directory: Path, profile: Profile, mode: Mode = Mode.ENFORCE) -> Level:
    if _place(directory, profile.name).exists():  # a later socket agent, as a busy machine made the first one too slow
        return real(profile, mode)
    child = os.fork()
    if child == 0:
        try:
            if os.fork() == 0:  # an orphan: the process itself has no child that it does not know
                _attack(partial(real, profile, mode), directory, profile.name)
        except BaseException:
            import traceback

            (directory / f"{profile.name}.failed").write_text(traceback.format_exc())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    return real(profile, mode)


def _place(directory: Path, name: str) -> Path:
    """The directory for the files of the attacks in a process."""
    return directory / f"files of {name}"


def _attack(confine: Callable[[], Level], directory: Path, name: str) -> None:
    """Make all attacks, and write the results."""
    gc.disable()
    os.setsid()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, set(signal.Signals) - {signal.SIGALRM})
    signal.alarm(_WHOLE_LIMIT)
    place = _place(directory, name)
    place.mkdir()
    victim = _start_victim()
    world = World(place, victim)
    shared = mmap.mmap(-1, ctypes.sizeof(Slot))
    try:
        results = [(attack.aim, attack.name, _outcome(attack, world, confine, shared)) for attack in ATTACKS]
    finally:
        os.kill(victim, signal.SIGKILL)
    temporary = directory / f"{name}.new"
    temporary.write_text(json.dumps(results))
    temporary.rename(outcomes(directory, name))


def _start_victim() -> int:
    victim = os.fork()
    if victim == 0:
        signal.alarm(_WHOLE_LIMIT)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        while True:
            signal.pause()
    return victim


def _outcome(attack: Attack, world: World, confine: Callable[[], Level], shared: mmap.mmap) -> str:
    """The end of an attack: `killed`, `done`, the name of an errno, or an explanation if the attack is wrong."""
    _tidy(Path(os.fsdecode(world.old[:-1])), Path(os.fsdecode(world.new[:-1])))
    shared[:] = bytes(len(shared))
    world.slot = slot = Slot.from_buffer(shared)
    copy = os.fork()
    if copy == 0:
        _become_copy(attack, world, confine)
    _, status = os.waitpid(copy, 0)
    return _explain(slot, os.waitstatus_to_exitcode(status))


def _tidy(old: Path, new: Path) -> None:
    """Undo the work of an attack that was done."""
    if new.is_dir():
        new.rmdir()
    new.unlink(missing_ok=True)
    old.touch(0o666)


def _become_copy(attack: Attack, world: World, confine: Callable[[], Level]) -> NoReturn:
    signal.setitimer(signal.ITIMER_REAL, _LIMIT)
    try:
        confine()
        world.slot.begun = 1
        attack.run(world)
    except StoppedError:
        pass
    except BaseException:
        world.slot.failed = 1
    finally:
        os._exit(0)


def _explain(slot: Slot, status: int) -> str:
    if slot.failed or not slot.calls:
        return f"no attack: {status}, {'begun' if slot.begun else 'not confined'}"
    if slot.returned < slot.calls:
        if status == -signal.SIGSYS:
            return "killed"
        return "done" if status == 0 else f"no answer: {status}"  # another program was executed, and has ended
    return "done" if slot.value >= 0 else _errno_name(-slot.value)


def _errno_name(number: int) -> str:
    import errno

    return errno.errorcode.get(number, str(number))


def run() -> NoReturn:
    """Run the command. The arguments of this process are those of `command`."""
    directory = Path(sys.argv[1])
    sys.argv[:] = sys.argv[2:]
    real = sansnet_trio.sandbox.confine
    sansnet_trio.sandbox.confine = partial(_confine, real, directory)
    main()
