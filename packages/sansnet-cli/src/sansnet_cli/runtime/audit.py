"""The audit, the summary and the learnt policy of a command."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sansnet_cli.options.records import CommandLineError
from sansnet_cli.output import report
from sansnet_core.policy import Action
from sansnet_trio.hostinfo import HostError

if TYPE_CHECKING:
    from sansnet_cli.options.records import CommandOptions
    from sansnet_cli.output.files import ReplacedFile
    from sansnet_core import FlowReport, NetworkConfig, NetworkStatistics, Notice
    from sansnet_trio.audit.file import AuditFile
    from sansnet_trio.audit.following import Accounts
    from sansnet_trio.audit.learner import Learner
    from sansnet_trio.audit.summary import Summary
    from sansnet_trio.network import GuestNetwork

__all__ = ["INTERVAL", "Audit", "GuestAudit", "audited"]

T = TypeVar("T")

INTERVAL: Final = 1.0
"""Seconds between calls of `GuestAudit.flush`."""


class Audit:
    """The accounts that the options of a command ask for, of one guest or of several one after the other.

    Args:
        file: the file of `--audit`; None without the option.
        learnt: the file of `--learn`; None without the option.

    Attributes:
        learnt: see above.
    """

    def __init__(self, file: AuditFile | None = None, learnt: ReplacedFile | None = None) -> None:
        self._file = file
        self.learnt = learnt
        self._learner: Learner | None = None

    def begin(self, config: NetworkConfig, *, live: bool) -> GuestAudit | None:
        """Begin the accounts of a guest; None if there are none. Call it when trio runs.

        Args:
            config: the configuration of the guest's network.
            live: whether the summary may be asked for while the guest is served.
        """
        wanted = self._file is not None or self.learnt is not None
        if not (wanted or live or _has_policy(config)):
            return None
        from sansnet_trio.audit.following import Accounts
        from sansnet_trio.audit.log import AuditLog
        from sansnet_trio.audit.summary import Summary

        summary = Summary(config.dns_search)
        log = () if self._file is None else (AuditLog(self._file),)
        return GuestAudit(
            summary,
            Accounts([summary, *log, *self._learners(config)]),
            self._save if self.learnt is not None else lambda: None,
            is_shown=lambda now: wanted or _has_policy(now),
        )

    def _learners(self, config: NetworkConfig) -> Sequence[Learner]:
        if self.learnt is None:
            return ()
        if self._learner is None:
            from sansnet_trio.audit.learner import Learner

            self._learner = Learner()
        self._learner.set_config(config)
        return (self._learner,)

    def _save(self) -> None:
        assert self.learnt is not None
        assert self._learner is not None
        try:
            self.learnt.write(self._learner.text())
        except OSError as error:
            report.warn(
                f"the learnt policy cannot be written ({error.strerror}); "
                "give --learn another file, and run the command again"
            )


class GuestAudit:
    """The accounts of one guest.

    Args:
        summary: one of them.
        accounts: all of them.
        save: called at the end.
        is_shown: whether the summary is printed at the end of a network with such a configuration.
    """

    def __init__(
        self,
        summary: Summary,
        accounts: Accounts,
        save: Callable[[], None],
        is_shown: Callable[[NetworkConfig], bool],
    ) -> None:
        self.summary = summary
        self._accounts = accounts
        self._save = save
        self._is_shown = is_shown

    def add(self, notices: Sequence[Notice]) -> None:
        """Take notices of the guest's network."""
        self._accounts.add(notices)

    def flush(self, statistics: NetworkStatistics) -> None:
        """Called about once per second."""
        self._accounts.flush(statistics)

    def answer(self, flows: Sequence[FlowReport]) -> dict[str, Any]:
        """The present summary for the control socket: data, and the same in lines for people."""
        found = self.summary.report(flows)
        return {**found, "lines": [str(self.summary), *self.summary.describe(found)]}

    def end(self, network: GuestNetwork) -> None:
        """Print the summary and save the learnt policy, when the network has ended."""
        self._accounts.end(network.statistics(), network.flows())
        if self._is_shown(network.config):
            report.inform(str(self.summary))
        self._save()


@contextmanager
def audited(options: CommandOptions) -> Iterator[Audit]:
    """The accounts of a command, whose files are open as long as the block runs.

    Raises:
        CommandLineError: a name stands for stdout, and not for a file.
        HostError: a file cannot be written.
    """
    with ExitStack() as stack:
        file, learnt = None, None
        if options.learn is not None:
            from sansnet_cli.output.files import ReplacedFile

            learnt = stack.enter_context(closing(_opened("--learn", options.learn, ReplacedFile)))
        if options.audit is not None:
            file = stack.enter_context(closing(_open_audit(options.audit, options.audit_size)))
        yield Audit(file, learnt)


def _open_audit(path: str, size: int | None) -> AuditFile:
    from sansnet_cli.output.files import open_appended
    from sansnet_trio.audit.file import AuditFile

    size = size or AuditFile.MAX_SIZE
    opened = os.fdopen(_opened("--audit", path, open_appended), "wb", buffering=0)
    has = os.fstat(opened.fileno()).st_size
    if has >= size:
        opened.close()
        raise HostError(
            f"the file {path} of --audit has {has} bytes already; move it away, or give a larger --audit-size"
        )
    return AuditFile(opened, max_size=size)


def _opened(option: str, path: str, opener: Callable[[str], T]) -> T:
    if path == "-":
        raise CommandLineError(f"{option} - cannot write to stdout, which is the command's; give a file")
    try:
        return opener(path)
    except OSError as error:
        raise HostError(
            f"the file {path} of {option} cannot be written ({error.strerror}); give another one"
        ) from error


def _has_policy(config: NetworkConfig) -> bool:
    return bool(config.rules) or config.default_action not in (None, Action.ALLOW)
