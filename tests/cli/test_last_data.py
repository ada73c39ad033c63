"""Data that a command sends just before it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tests.lab import SERVER4, Lab, laboratory

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

SIZE = 3_000_000
COUNT = 100


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with laboratory() as made:
        yield made


def test_a_last_burst_of_datagrams_arrives(lab: Lab) -> None:
    with lab.upstream.datagram(SERVER4) as server:
        port = server.getsockname()[1]
        script = f"for i in {{1..{COUNT}}}; do echo $i; done >/dev/udp/{SERVER4}/{port}"
        done = lab.sansnet([], ["bash", "-c", script])
        assert (done.returncode, done.stderr) == (0, "")
        server.settimeout(2)
        # in any order: the guest's kernel may overtake itself while it asks for the gateway's Ethernet address
        assert {int(server.recv(100)) for _ in range(COUNT)} == set(range(1, COUNT + 1))


def test_a_stream_that_the_command_did_not_wait_for_arrives_whole(lab: Lab) -> None:
    received: list[int] = []

    def serve() -> None:
        stream = listener.accept()[0]
        with stream:
            time.sleep(0.2)  # longer than the command lives
            while data := stream.recv(1 << 16):
                received.append(len(data))

    with lab.upstream.listen(SERVER4) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        done = lab.sansnet([], ["bash", "-c", f"head -c {SIZE} /dev/zero >/dev/tcp/{SERVER4}/{port}"])
        assert (done.returncode, done.stderr) == (0, "")
        thread.join(5)
        assert sum(received) == SIZE
