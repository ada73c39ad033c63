"""A network over any link, as an async context manager.

Theory of operation. The driver runs in a task of its own. When it ends by itself, the body of the block is cancelled,
and its exception leaves the block; when the body ends, the driver is cancelled. The exception of the body leaves the
block alone, since the nursery never sees it.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from typing import TYPE_CHECKING, Final

import trio

from sansnet_core import NetworkConfig
from sansnet_core.errors import expect
from sansnet_core.recording import RecordedNetwork
from sansnet_core.records import replace
from sansnet_trio.decisions import asking_by_default
from sansnet_trio.driver import Driver
from sansnet_trio.groups import combined, raise_alone
from sansnet_trio.links import expect_link
from sansnet_trio.network import GuestNetwork
from sansnet_trio.recording.failures import FailureReports

if TYPE_CHECKING:
    from sansnet_core import LinkConfig, Notice
    from sansnet_core.config import ResolverConfig
    from sansnet_core.impairment import Impairment
    from sansnet_trio.decisions import Decider
    from sansnet_trio.forward.forwards import Forwards
    from sansnet_trio.links import Link
    from sansnet_trio.links.observed import CaptureFile
    from sansnet_trio.recording.file import RecordingFile
    from sansnet_trio.recording.recorder import Recorder
    from sansnet_trio.services.host import Host
    from sansnet_trio.services.services import Services

__all__ = ["open_network"]

_SECRET_SIZE: Final = 32


@asynccontextmanager
async def open_network(
    link: Link,
    config: NetworkConfig,
    *,
    services: Services | None = None,
    decide: Decider | None = None,
    capture: CaptureFile | None = None,
    record: str | os.PathLike[str] | RecordingFile | None = None,
    forwards: Forwards | None = None,
    interface: str | None = None,
    outbound4: str | None = None,
    outbound6: str | None = None,
    host: Host | None = None,
    on_notices: Callable[[Sequence[Notice]], None] | None = None,
    on_ready: Callable[[], None] = lambda: None,
    resolver: ResolverConfig | None = None,
    impair_up: Impairment | None = None,
    impair_down: Impairment | None = None,
    impair_seed: int | None = None,
) -> AsyncIterator[GuestNetwork]:
    """Give the guest of a link a network, as long as the block runs; an async context manager.

    At the end of the block the link is closed, and connections that are still open are reset.

    Args:
        link: the guest's link, such as a `Tap`, `UnixStream` or `VhostUserLink`. It is closed in any case.
        config: the configuration of the network. Its `link` is replaced by that of the link.
        services: the services of the program to offer the guest.
        decide: an async function that decides about new flows; see `sansnet_trio.decisions`. With it, the default
            action of a configuration that has none is `ASK`.
        capture: a capture of all frames, in both directions; it stays open.
        record: a file for a recording of all inputs of the network, which `sansnet replay` and
            `sansnet_core.recording.Replay` run again: its path, or a `RecordingFile`, which stays open.
        forwards: the forwarded ports to serve. The caller closes them.
        interface: see `Driver`.
        outbound4: see `Driver`.
        outbound6: see `Driver`.
        host: see `Driver`.
        on_notices: see `Driver`; most programs call `GuestNetwork.subscribe` instead.
        on_ready: called when the network is ready, before the first frame is read.
        resolver: the resolver that the guest gets when `GuestNetwork.set_policy` gives it rules with names and it has
            none; None makes one from the configuration, which does not tell the host's networks.
        impair_up: the delay, rate and faults of frames from the guest; see `GuestNetwork.impair`.
        impair_down: the same for frames to the guest.
        impair_seed: the beginning of the random faults; None takes a random one.

    Raises:
        LinkClosed: the guest's end of the link is gone; the block was cancelled. See `GuestNetwork.wait_closed`.
        NetworkFailed: a mistake in sansnet ended the network; the block was cancelled.
        ConfigError: the configuration does not fit the link.
        UsageError: an argument has another type.
        OSError: the link failed, there is no such interface, no descriptor is left, or `record` cannot be written.
    """
    expect_link(link)
    reports = FailureReports()
    recording = ExitStack()
    try:
        expect("config", config, NetworkConfig, "a NetworkConfig")
        config = replace(config, link=link.config if impair_up is None else _verifying(link.config, impair_up))
        if services is not None:
            from sansnet_trio.services.services import Services

            expect("services", services, Services, "a Services")
        if decide is not None:
            config = asking_by_default(config)
        if capture is not None:
            from sansnet_trio.links.observed import CapturedLink, CaptureFile

            expect("capture", capture, CaptureFile, "a CaptureFile; give CaptureFile(open(path, 'wb'))")
            link = CapturedLink(link, capture)
        now = trio.current_time()
        core = RecordedNetwork(
            config, now=now, secret=os.urandom(_SECRET_SIZE), epoch=time.time() - now, failed=reports.report
        )
        recorder = None if record is None else recording.enter_context(_recorder(core, record))
        driver = Driver(
            core,
            link,
            interface=interface,
            outbound4=outbound4,
            outbound6=outbound6,
            forwards=forwards,
            services=services,
            decide=decide,
            host=host,
            on_notices=on_notices,
            traffic=core.traffic(),
        )
        if impair_up is not None or impair_down is not None:
            driver.impair(up=impair_up, down=impair_down, seed=impair_seed)
    except BaseException:
        recording.close()
        link.close()
        raise
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            network = GuestNetwork(core, driver, config, nursery, forwards, resolver)
            served = trio.Event()
            reports.on_end = network.end
            nursery.start_soon(_drive, network, _Status(served, on_ready))
            if recorder is not None:
                nursery.start_soon(recorder.run)
            try:
                with network.body:
                    await served.wait()
                    yield network
            except BaseException as error:
                failure = error
            network.close()
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        failure = combined(failure, group)
    finally:
        recording.close()
    if network.failure is not None:
        failure = combined(failure, BaseExceptionGroup("the network failed", [network.failure]))
    if failure is not None:
        raise_alone(failure)


@contextmanager
def _recorder(network: RecordedNetwork, record: str | os.PathLike[str] | RecordingFile) -> Iterator[Recorder]:
    """Record a network as long as the block runs."""
    from sansnet_trio.recording.file import RecordingFile
    from sansnet_trio.recording.recorder import Recorder

    with ExitStack() as stack:
        file = record if isinstance(record, RecordingFile) else stack.enter_context(closing(RecordingFile(record)))
        recorder = Recorder(network, file)
        stack.callback(recorder.close)
        yield recorder


def _verifying(link: LinkConfig, up: Impairment) -> LinkConfig:
    """The properties of a link; checksums are verified if frames from the guest may be corrupted."""
    from sansnet_core.impairment import Impairment

    expect("impair_up", up, Impairment, "an Impairment")
    return replace(link, verify_checksums=True) if up.corrupt else link


async def _drive(network: GuestNetwork, status: _Status) -> None:
    """Run the driver; when it ends by itself, end the network."""
    try:
        await network.driver.run(task_status=status)
    except Exception as error:
        network.end(error)


class _Status(trio.TaskStatus[None]):
    """Sets an event at once, so that the block begins even if the driver fails in the same moment."""

    def __init__(self, event: trio.Event, on_ready: Callable[[], None]) -> None:
        self._event = event
        self._on_ready = on_ready

    def started(self, value: None = None) -> None:
        """See `trio.TaskStatus`."""
        self._on_ready()
        self._event.set()
