"""Names the system calls in lines of the kernel's log: `journalctl -k --grep type=1326 | python -m MODULE`."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from sansnet_trio.sandbox.call_names import name_of

__all__ = ["named"]

_LINE: Final = re.compile(r'type=(?:1326|SECCOMP) .*?comm="?([^" ]+)"? .*?arch=([0-9a-f]+) syscall=(\d+)')
"""As in the kernel's log, or in that of auditd."""


def named(lines: Iterable[str]) -> Iterator[str]:
    """One line for each call of each program: how often, which program, and the name of the call.

    Args:
        lines: lines of the kernel's log or auditd's; those about anything else are ignored.
    """
    found = Counter(match.groups() for line in lines if (match := _LINE.search(line)))
    for (program, architecture, number), count in found.most_common():
        name = name_of(architecture, int(number)) or f"system call {number} of {architecture}"
        yield f"{count} {program} {name}"


def _main() -> None:
    found = list(named(sys.stdin))
    if not found:
        sys.exit("no line names a system call (type=1326, or type=SECCOMP); give it the kernel's log or auditd's")
    print("\n".join(found))


if __name__ == "__main__":
    _main()
