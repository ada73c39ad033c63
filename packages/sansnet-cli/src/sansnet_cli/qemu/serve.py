"""`sansnet qemu` with trio: a virtual machine with its network, from the start of QEMU to its end.

Theory of operation. QEMU is a child of sansnet, in its process group and with its terminal; sansnet serves it until it
ends. If sansnet is killed, QEMU gets SIGTERM. See `run_machine`.
"""

from __future__ import annotations

import shlex
import signal
from contextlib import ExitStack, closing
from functools import partial
from typing import BinaryIO

import trio

from sansnet_cli.options.records import QemuOptions
from sansnet_cli.output import report
from sansnet_cli.process import readiness
from sansnet_cli.runtime.audit import audited
from sansnet_cli.runtime.control import controlled
from sansnet_cli.runtime.observe import captured
from sansnet_cli.runtime.ports import open_forwards
from sansnet_cli.runtime.record import recorded
from sansnet_cli.runtime.session import Session
from sansnet_cli.runtime.signals import CommandSignals
from sansnet_cli.serve.serve import machine_network
from sansnet_trio.front.qemu import Qemu, run_machine
from sansnet_trio.front.stdio import Stdio
from sansnet_trio.linux.privileges import CAP_KILL
from sansnet_trio.plan import qemu_arguments
from sansnet_trio.plan.setup import Setup

__all__ = ["serve"]


def serve(options: QemuOptions, setup: Setup, capture: BinaryIO | None) -> int:
    """Run a machine until it ends.

    Args:
        options: the options of `sansnet qemu`.
        setup: the setup of the machine's network.
        capture: an open file for a capture.

    Returns:
        QEMU's exit status, or the negative number of the signal that ended it.

    Raises:
        CommandNotFound, CommandNotExecutable: there is no such QEMU.
        HostError: QEMU is too old, or this host cannot serve such a link.
        OptionsError: QEMU's arguments cannot work.
        ListenError: no socket can be made.
        ForwardError: a port cannot be forwarded.
    """
    readiness.report_logged()
    status = trio.run(_serve, options, setup, capture)
    if status < 0:
        report.warn(f"signal {-status} ended QEMU ({signal.strsignal(-status)})")
    return status


async def _serve(options: QemuOptions, setup: Setup, capture: BinaryIO | None) -> int:
    program = options.program or qemu_arguments.program_for()
    qemu = await Qemu.find(program, options.arguments, use_vhost_user=options.vhost_user)
    for warning in setup.warnings:
        report.warn(warning)
    with (
        controlled(options) as control,
        captured(capture) as file,
        audited(options) as audit,
        recorded(options) as recording,
        open_forwards(options, setup, control) as forwards,
        closing(Stdio(None, None, None)) as stdio,
        ExitStack() as stack,
    ):
        session = Session(options, setup, control, forwards, audit=audit, recording=recording)
        networks = partial(machine_network, session, options, file)
        async with run_machine(
            qemu, setup, networks, mtu=options.mtu, allow_unsealed=options.allow_unsealed, stdio=stdio
        ) as machine:
            # QEMU has begun with the signals, limits and privileges that we were given
            signals = stack.enter_context(closing(CommandSignals()))
            if options.verbose:
                report.inform(f"started {shlex.join(machine.args)}")
            readiness.prepare()
            # Without CAP_KILL we could not send signals to a QEMU that changes its user
            keep = (CAP_KILL,) if qemu_arguments.changes_user(options.arguments) else ()
            readiness.renounce(options.ports, controlled=control.is_on, keep=keep)
            async with session.running() as nursery:
                nursery.start_soon(signals.run, machine)
                return await machine.wait()
