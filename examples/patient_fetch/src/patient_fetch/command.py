"""The command: `patient-fetch HOST [PATH]` writes the document to stdout."""

from __future__ import annotations

import sys
from functools import partial

import trio

from patient_fetch.client import FetchError, fetch

__all__ = ["main"]


def main() -> None:
    """Fetch the document that the command line names; the exit status is 1 if that fails."""
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: patient-fetch HOST [PATH]")
    host, path = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "/"
    try:
        body = trio.run(partial(fetch, host, path))
    except FetchError as error:
        sys.exit(str(error))
    sys.stdout.buffer.write(body)


if __name__ == "__main__":
    main()
