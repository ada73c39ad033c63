"""Settings of networks and sequences of operations, for `sansnet_core.testing.operations`.

A sequence draws from a few kinds of operations and a few of the guest's ports, so that operations meet: among all kinds
and ports, few would concern the same connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from hypothesis import strategies as st

from sansnet_core.testing.operations.domains import ANY_BYTES, Operation, check_fields, domains
from sansnet_core.testing.operations.places import PORTS
from sansnet_core.testing.operations.settings import Setting
from sansnet_core.testing.operations.steps import OPERATIONS, GuestConnects, GuestSends, TimePasses

__all__ = ["one_of", "sequences", "settings"]

_OFTEN: tuple[type[Operation], ...] = (GuestConnects, GuestSends, TimePasses)
"""Kinds that most other ones need."""


def _fields(kind: type[Any], frames: st.SearchStrategy[bytes], fixed: dict[str, Sequence[Any]]) -> dict[str, Any]:
    return {
        name: frames if values is ANY_BYTES else st.sampled_from(fixed.get(name, values))
        for name, values in domains(kind).items()
    }


def _built(
    kind: type[Operation], frames: st.SearchStrategy[bytes], fixed: dict[str, Sequence[Any]]
) -> st.SearchStrategy[Operation]:
    return st.builds(kind, **_fields(kind, frames, fixed))


def settings(**fixed: Sequence[Any]) -> st.SearchStrategy[Setting]:
    """Settings; `fixed` has the values of some fields.

    Raises:
        UsageError: a field or a value is unknown.
    """
    check_fields([Setting], fixed)
    return st.builds(Setting, **_fields(Setting, st.binary(), fixed))


def one_of(
    kinds: Iterable[type[Operation]], frames: st.SearchStrategy[bytes], **fixed: Sequence[Any]
) -> st.SearchStrategy[Operation]:
    """Operations of some kinds.

    Args:
        kinds: which ones; one that occurs twice is chosen more often.
        frames: for `GuestSendsFrame`.
        fixed: the values of some fields, in all kinds that have them.

    Raises:
        UsageError: no kind has such a field, or a value is unknown.
    """
    kinds = tuple(kinds)
    check_fields(kinds, fixed)
    return st.one_of([_built(kind, frames, fixed) for kind in kinds])


def sequences(
    frames: st.SearchStrategy[bytes] | None = None,
    kinds: Sequence[type[Operation]] = OPERATIONS,
    most: int = 60,
    **fixed: Sequence[Any],
) -> st.SearchStrategy[list[Operation]]:
    """Sequences of operations.

    Args:
        frames: raw frames of the guest; any bytes if it is None.
        kinds: kinds of operations.
        most: operations in a sequence.
        fixed: the values of some fields, in all kinds that have them.

    Raises:
        UsageError: no kind has such a field, or a value is unknown.
    """
    check_fields(kinds, fixed)
    return _sequences_of(st.binary(max_size=100) if frames is None else frames, kinds, most, fixed)


@st.composite
def _sequences_of(
    draw: st.DrawFn,
    frames: st.SearchStrategy[bytes],
    kinds: Sequence[type[Operation]],
    most: int,
    fixed: dict[str, Sequence[Any]],
) -> list[Operation]:
    some = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=8, unique=True))
    often = [kind for kind in _OFTEN if kind in kinds]
    ports = draw(st.lists(st.sampled_from(PORTS), min_size=1, max_size=3, unique=True))
    own = [port for port in ports if port in domains(GuestConnects)["port"]] or [PORTS[0]]
    listening = [port for port in ports if port not in own] or [PORTS[-1]]
    choices = [_built(kind, frames, {"port": _ports(kind, own, listening)} | fixed) for kind in some + often]
    least = draw(st.sampled_from([0, most // 4, most // 2]))  # else, most lists would have about 5 elements
    return draw(st.lists(st.one_of(choices), min_size=least, max_size=most))


def _ports(kind: type[Operation], own: list[int], listening: list[int]) -> list[int]:
    values = domains(kind).get("port", ())
    return [port for port in own + listening if port in values] or list(values)
