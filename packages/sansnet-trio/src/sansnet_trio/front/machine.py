"""A virtual machine with its own network, as an async context manager; see `qemu`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, closing
from functools import partial
from typing import TYPE_CHECKING, Final

from sansnet_trio.front.process import words_of
from sansnet_trio.front.qemu import Machine, Qemu, run_machine
from sansnet_trio.front.setup import network_of, open_ports, warn
from sansnet_trio.front.stdio import Stdio, Stream
from sansnet_trio.links import vhost_user
from sansnet_trio.plan.host import read_host_for
from sansnet_trio.plan.options import NetworkOptions
from sansnet_trio.plan.setup import make_setup
from sansnet_trio.recording.file import RecordingFile

if TYPE_CHECKING:
    from sansnet_core.ports import ForwardRule
    from sansnet_trio.decisions import Decider
    from sansnet_trio.links.observed import CaptureFile
    from sansnet_trio.services.services import Services

__all__ = ["open_machine"]

_LIKE_HOST: Final = NetworkOptions()


@asynccontextmanager
async def open_machine(
    command: Sequence[str | os.PathLike[str]],
    options: NetworkOptions = _LIKE_HOST,
    *,
    use_vhost_user: bool | None = None,
    allow_unsealed: bool = False,
    services: Services | None = None,
    decide: Decider | None = None,
    capture: CaptureFile | None = None,
    record: str | os.PathLike[str] | RecordingFile | None = None,
    forwards: Iterable[ForwardRule] = (),
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
) -> AsyncIterator[Machine]:
    """Run QEMU with a network card that this program serves; an async context manager.

    The block begins when QEMU runs. At its end, also if it was cancelled, a QEMU that still runs is ended, with SIGTERM
    and after 5 s SIGKILL. The machine configures itself by DHCP, DHCPv6 and router advertisements.

    Args:
        command: QEMU, looked up in PATH, and its arguments without a network card; those for the card are added.
        options: the options of the machine's network; see `open_guest`.
        use_vhost_user: whether the link is vhost-user, which is fastest and needs x86-64, or QEMU's stream socket; None
            chooses.
        allow_unsealed: accept memory over vhost-user whose file could shrink, which ends this process by SIGBUS. Only
            your own memory back-end in `command` can be such a file.
        services: see `open_network`.
        decide: see `open_network`.
        capture: see `open_network`.
        record: see `open_network`.
        forwards: see `open_guest`.
        env: see `open_guest`.
        cwd: see `open_guest`.
        stdin: see `open_guest`.
        stdout: see `open_guest`.
        stderr: see `open_guest`.

    Raises:
        CommandNotFound: there is no such program.
        CommandNotExecutable: the file cannot be executed.
        HostError: QEMU is too old, this host cannot serve such a link, or the options do not fit the host.
        OptionsError: QEMU's arguments cannot work, or the options do not fit each other.
        ForwardError: a port cannot be bound.
    """
    program, *arguments = words_of(command)
    if use_vhost_user is None:
        use_vhost_user = vhost_user.is_supported()
    qemu = await Qemu.find(program, arguments, use_vhost_user=use_vhost_user)
    setup = make_setup(options, read_host_for(options))
    warn(*setup.warnings)
    with ExitStack() as stack:
        ports = await open_ports(forwards, setup)
        if ports is not None:
            stack.enter_context(ports)
        stdio = stack.enter_context(closing(Stdio(stdin, stdout, stderr)))
        networks = partial(
            network_of, setup=setup, services=services, decide=decide, capture=capture, record=record, forwards=ports
        )
        directory = None if cwd is None else os.fspath(cwd)
        async with run_machine(
            qemu,
            setup,
            networks,
            mtu=options.mtu,
            allow_unsealed=allow_unsealed,
            env=env,
            cwd=directory,
            stdio=stdio,
        ) as machine:
            yield machine
