"""Leads the dialogue of a handshake with a proxy that answers in a fixed way."""

from __future__ import annotations

from collections.abc import Iterable

from sansnet_core.proxy import Handshake


def dialogue(handshake: Handshake, answers: Iterable[bytes], most: int = 1000) -> tuple[list[bytes], bytes]:
    """Lead it to the end of the answers or of the dialogue.

    Args:
        handshake: a new one.
        answers: the bytes of the proxy.
        most: bytes that are read at once, if as many are needed.

    Returns:
        The messages that were sent; the bytes of the proxy that were not read.
    """
    sent = [handshake.start()]
    left = b"".join(answers)
    while left and not handshake.done:
        assert handshake.needed > 0
        size = min(handshake.needed, most, len(left))
        message = handshake.receive(left[:size])
        left = left[size:]
        if message:
            sent.append(message)
    if handshake.done:
        assert handshake.needed == 0
    return sent, left
