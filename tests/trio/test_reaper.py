"""The handle of the process that waits for a guest's command."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from struct import pack

from sansnet_trio.guest.reaper import Reaper, Report


def test_the_status_is_known_although_the_reaper_has_ended_with_a_request_unread() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen(["sleep", "60"])
    reaper = Reaper(process.pid, ours, alone=True)
    try:
        with theirs:
            reaper.continue_command()
            theirs.send(pack("=ii", os.CLD_EXITED, 3))
        assert reaper.reports() == [Report(os.CLD_EXITED, 3), Report(os.CLD_KILLED, signal.SIGKILL)]
    finally:
        reaper.close()
        process.wait()
