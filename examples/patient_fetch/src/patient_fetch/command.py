"""The command: `patient-fetch HOST [PATH]` writes the document to stdout."""

from __future__ import annotations

import sys

import trio

from patient_fetch.client import FetchError, fetch

__all__ = ["main"]


def main() -> None:
    """Fetch what the command line names; the exit status is 1 if that fails."""
    try:
        body = trio.run(fetch, *sys.argv[1:3])
    except FetchError as error:
        sys.exit(str(error))
    sys.stdout.buffer.write(body)


if __name__ == "__main__":
    main()
