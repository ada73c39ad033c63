"""Networks can be pickled and copied, with all their state.

Theory of operation. The state is saved by a pickler of its own. It saves what `pickle` cannot: memoryviews, in which
packets and data in flight are kept, become views of copies. States of TCP, which are compared by identity, are saved by
name. The object itself is left out wherever its parts refer to it, and the new one takes its place.
"""

from __future__ import annotations

import io
import pickle
from typing import Any, Final, SupportsIndex

from sansnet_core.proto.tcp.states import EVENT_TRIGGERED

__all__ = ["Copyable"]

_OWNER: Final = "the object itself"
_STATES: Final = {state: state for part in EVENT_TRIGGERED.values() for state in part}


class Copyable:
    """Base class of an object that `pickle` and `copy` copy with all that it refers to. A copy goes on by itself."""

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[object, ...]:
        saved = io.BytesIO()
        _Pickler(saved, self).dump(vars(self))
        return _restore, (type(self), saved.getvalue())


def _restore(cls: type[Copyable], saved: bytes) -> Copyable:
    made = object.__new__(cls)
    vars(made).update(_Unpickler(io.BytesIO(saved), made).load())
    return made


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, owner: Copyable) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._owner = owner

    def persistent_id(self, obj: object) -> str | None:
        if obj is self._owner:
            return _OWNER
        return obj if type(obj) is str and obj in _STATES else None

    def reducer_override(self, obj: object) -> Any:
        return (memoryview, (bytes(obj),)) if isinstance(obj, memoryview) else NotImplemented


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, owner: Copyable) -> None:
        super().__init__(file)
        self._owner = owner

    def persistent_load(self, pid: str) -> object:
        return self._owner if pid == _OWNER else _STATES[pid]
