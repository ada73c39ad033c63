"""The client of the control socket: one request, one answer. See docs/control.md."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
from typing import Any, Final, TypeAlias

from sansnet_core.errors import SansnetError

__all__ = ["Answer", "ControlError", "ask", "no_answer"]

Answer: TypeAlias = dict[str, Any]

_ANSWER_TIMEOUT: Final = 30.0
"""Seconds to wait for an answer."""

_MAX_ANSWER: Final = 64 << 20
"""Bytes; a longer line is not an answer of sansnet."""


class ControlError(SansnetError):
    """There is no answer, or the answer is an error. The message says why."""


def ask(path: str, request: dict[str, Any]) -> Answer:
    """Send a request to a control socket.

    Args:
        path: path of the control socket.
        request: JSON values.

    Returns:
        The answer, as JSON values.

    Raises:
        ControlError: there is no answer, or it is an error.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_ANSWER_TIMEOUT)
            connection.connect(path)
            with contextlib.suppress(BrokenPipeError):  # refused before the request was read; the answer says why
                connection.sendall(json.dumps(request).encode() + b"\n")
            line = _receive_line(connection)
        answer = json.loads(line)
    except ConnectionRefusedError:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise ControlError(f"{path} is not a socket; give the path of the option -c") from None
        raise ControlError(f"no process listens on {path}; start sansnet with -c {path}") from None
    except (TimeoutError, BlockingIOError):  # the latter if the backlog is full
        raise ControlError(f"{path} does not answer; check that it is a control socket") from None
    except PermissionError:
        raise ControlError(
            f"permission to use {path} is denied; use it as the user who started sansnet, or as root"
        ) from None
    except OSError as error:
        why = error.strerror or str(error)
        raise ControlError(f"cannot connect to {path}: {why}; give the path of the option -c") from None
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise no_answer(path)
    if "error" in answer:
        raise ControlError(str(answer["error"]))
    return answer


def no_answer(path: str) -> ControlError:
    """The error for a path where another program listens."""
    return ControlError(f"{path} does not answer as a control socket does; give the path of the option -c")


def _receive_line(connection: socket.socket) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n") and len(received) < _MAX_ANSWER:
        data = connection.recv(1 << 16)
        if not data:
            break
        received += data
    return bytes(received)
