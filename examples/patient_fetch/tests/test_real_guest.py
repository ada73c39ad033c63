"""The command in a real guest: a process with the kernel's own TCP, in a network namespace that the test serves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import trio

from sansnet_trio import Guest, GuestStream, NamespaceOptions, Services

SERVER = "192.0.2.80"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def test_the_command_in_a_guest(real_guest: Callable[..., AbstractAsyncContextManager[Guest]]) -> None:
    services = Services()

    async def answer(stream: GuestStream) -> None:
        await stream.receive_some()
        await stream.send_all(ANSWER)

    async def main() -> tuple[int, bytes]:
        command = [sys.executable, "-m", "patient_fetch.command", SERVER]
        options = NamespaceOptions.made_up(virtual=(SERVER,))
        async with trio.open_nursery() as nursery:
            await nursery.start(services.serve_tcp, answer, 80)
            async with real_guest(command, options, services=services, stdout=subprocess.PIPE) as guest:
                assert guest.stdout is not None
                output = b"".join([part async for part in guest.stdout])
                status = await guest.wait()
            nursery.cancel_scope.cancel()
        return status, output

    assert trio.run(main) == (0, b"hello")
