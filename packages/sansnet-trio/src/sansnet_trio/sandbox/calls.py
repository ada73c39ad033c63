"""Names the system calls in lines of the kernel's log: `journalctl -k --grep type=1326 | python -m MODULE`."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from sansnet_trio.sandbox.system_calls import ARCHITECTURES, NUMBERS

__all__ = ["named"]

_LINE: Final = re.compile(r'type=1326 .*?comm="?([^" ]+)"? .*?arch=([0-9a-f]+) syscall=(\d+)')


def named(lines: Iterable[str]) -> Iterator[str]:
    """One line for each call of each program: how often, which program, and the name of the call.

    Args:
        lines: lines of the kernel's log; those about anything else are ignored.
    """
    found = Counter(match.groups() for line in lines if (match := _LINE.search(line)))
    columns = {f"{architecture:x}": column for architecture, column in ARCHITECTURES.values()}
    for (program, architecture, number), count in found.most_common():
        column = columns.get(architecture)
        names = [name for name, numbers in NUMBERS.items() if column is not None and numbers[column] == int(number)]
        yield f"{count} {program} {names[0] if names else f'system call {number} of {architecture}'}"


if __name__ == "__main__":
    for line in named(sys.stdin):
        print(line)
