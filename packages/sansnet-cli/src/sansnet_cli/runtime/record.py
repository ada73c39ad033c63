"""The recording of a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from sansnet_trio.hostinfo import HostError

if TYPE_CHECKING:
    from sansnet_cli.options.records import CommandOptions
    from sansnet_trio.recording.file import RecordingFile

__all__ = ["recorded"]


@contextmanager
def recorded(options: CommandOptions) -> Iterator[RecordingFile | None]:
    """The file of `--record`, open as long as the block runs; None without the option.

    Raises:
        HostError: it cannot be written.
    """
    if options.record is None:
        yield None
        return
    from sansnet_trio.recording.file import RecordingFile

    try:
        file = RecordingFile(options.record, size=options.record_size or RecordingFile.MAX_SIZE)
    except OSError as error:
        raise HostError(
            f"the file {options.record} of --record cannot be written ({error.strerror}); give another one"
        ) from error
    with closing(file):
        yield file
