"""The command of the control socket about the impairments: a bad network between the guest and its network."""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol

from sansnet_core import ConfigError
from sansnet_trio.control.requests import RequestError

if TYPE_CHECKING:
    from sansnet_core.impairment import Impairment
    from sansnet_trio.control.server import Answer, Request
    from sansnet_trio.driver_statistics import DriverStatistics

__all__ = ["Impaired", "ImpairmentCommands"]

_DIRECTIONS: Final = ("up", "down")


class Impaired(Protocol):
    """A network whose impairments can change, such as a `GuestNetwork`."""

    @property
    def impairments(self) -> tuple[Impairment, Impairment]:
        """The present impairments of frames from the guest, and to it."""

    def impair(self, *, up: Impairment | None = None, down: Impairment | None = None) -> None:
        """Have others from now on; None leaves one as it is."""

    def driver_statistics(self) -> DriverStatistics | None:
        """The counters of the driver; None without a guest."""


class ImpairmentCommands:
    """Answers requests about impairments; see `ControlCommands`."""

    def __init__(self) -> None:
        self._impaired: Impaired | None = None

    def set_impaired(self, impaired: Impaired) -> None:
        """Set the network whose impairments can change; until then, the command fails."""
        self._impaired = impaired

    def impair(self, request: Request) -> Answer:
        """The impairments and their counters, after the change that the request asks for."""
        if self._impaired is None:
            raise RequestError("the guest is not ready yet; try again")
        present = dict(zip(_DIRECTIONS, self._impaired.impairments, strict=True))
        changed = {name: _changed(name, present[name], request[name]) for name in _DIRECTIONS if name in request}
        if changed:
            self._impaired.impair(**changed)
        counters = self._impaired.driver_statistics()
        return {
            name: {
                **{field: _plain(value) for field, value in vars(impairment).items()},
                "counters": _counters(counters, name),
            }
            for name, impairment in zip(_DIRECTIONS, self._impaired.impairments, strict=True)
        }


def _changed(direction: str, present: Impairment, changes: object) -> Impairment:
    """The impairment with some fields changed, or a perfect one for null."""
    from sansnet_core.impairment import Distribution, Impairment
    from sansnet_core.records import replace

    if changes is None:
        return Impairment()
    if not isinstance(changes, dict):
        raise RequestError(f'{direction} must be an object of fields like {{"delay": 0.1}}, or null for none')
    values: dict[str, Any] = dict(changes)
    if unknown := [name for name in values if name not in vars(present)]:
        raise RequestError(f"{direction}: there is no {unknown[0]!r:.100}; use {', '.join(vars(present))}")
    if "distribution" in values:
        names = [kind.value for kind in Distribution]
        if values["distribution"] not in names:
            raise RequestError(f"{direction}: distribution must be one of {', '.join(names)}")
        values["distribution"] = Distribution(values["distribution"])
    try:
        return replace(present, **values)
    except ConfigError as error:
        raise RequestError(f"{direction}.{error}") from None


def _plain(value: object) -> object:
    return value.value if isinstance(value, Enum) else value


def _counters(statistics: DriverStatistics | None, direction: str) -> Answer | None:
    counters = None if statistics is None else getattr(statistics, f"impaired_{direction}")
    return None if counters is None else asdict(counters)
