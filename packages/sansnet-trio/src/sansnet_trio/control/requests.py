"""The parts of requests and answers that the commands of the control socket share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sansnet_core import Endpoint, SansnetError, addresses

if TYPE_CHECKING:
    from sansnet_trio.control.server import Answer, Request

__all__ = ["RequestError", "endpoint", "number"]


class RequestError(SansnetError):
    """A request is invalid; the message names valid ones."""


def number(request: Request, name: str, default: int, maximum: int) -> int:
    """A number from 1 to `maximum` in a request.

    Raises:
        RequestError: it is not one.
    """
    value = request.get(name, default)
    if type(value) is not int or not 0 < value <= maximum:
        raise RequestError(f"{name} must be a number between 1 and {maximum}")
    return value


def endpoint(value: Endpoint) -> Answer:
    """An endpoint as JSON values."""
    return {"address": addresses.format_any(value.address), "port": value.port}
