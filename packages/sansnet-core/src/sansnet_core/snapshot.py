"""Networks can be pickled and copied, with all their state.

Theory of operation. The state is saved by a pickler of its own. It saves what `pickle` cannot: memoryviews, in which
packets and data in flight are kept, become views of copies. States of TCP, which are compared by identity, are saved by
name. The object itself is left out wherever its parts refer to it, and the new one takes its place; so are other
objects that the caller has again when the state is loaded.

The state in a file may come from a stranger (`load`). Then only classes and functions of the core are found, and a few
containers. None of them does anything but compute. A class, a function or a member of an enumeration cannot be changed.
"""

from __future__ import annotations

import io
import pickle
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from enum import Enum
from functools import partial
from importlib import import_module
from struct import Struct
from types import BuiltinFunctionType, FunctionType, MethodDescriptorType
from typing import Any, Final, SupportsIndex, cast

from sansnet_core.errors import SansnetError
from sansnet_core.proto.tcp.states import EVENT_TRIGGERED

__all__ = ["Copyable", "TooLarge", "load", "save"]

_OWNER: Final = "the object itself"
_STATES: Final = {state: state for part in EVENT_TRIGGERED.values() for state in part}

_CONTAINERS: Final = {
    (cls.__module__, cls.__name__): cls
    for cls in (Counter, OrderedDict, complex, defaultdict, deque, frozenset, memoryview, partial, set)
}
_WITH_METHODS: Final = frozenset((Counter, OrderedDict, deque, dict, list, set))
_METHODS: Final = frozenset(("add", "append", "clear", "discard", "get", "pop", "remove"))
"""Methods of containers that are found: none by which a few bytes could make a large container."""
_PACKAGE: Final = "sansnet_core."
_NOT_STATE: Final = ("sansnet_core.testing", "sansnet_core.recording", __name__)
_FUNCTIONS: Final = ("sansnet_core.addresses", "sansnet_core.proto", "sansnet_core.proxy")
"""Modules and packages whose functions are found, too."""
_FUNCTION: Final = (FunctionType, BuiltinFunctionType)
"""Types of functions: interpreted and compiled ones."""
_SIZE: Final = Struct("<Q")
_MAX_WEIGHT: Final = 1 << 17
"""Most parts of a tuple, with those of the tuples in it. A hash takes as long; a few bytes could nest 2**60 of them."""
_BY_IDENTITY: Final = (None, object.__hash__)
"""Hashes that take no time, whatever the parts."""


class TooLarge(SansnetError):
    """A state is larger than the caller wants it."""


class Copyable:
    """Base class of an object that `pickle` and `copy` copy with all that it refers to. A copy goes on by itself."""

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[object, ...]:
        return _restore, (type(self), save(self, self.__getstate__()))

    def __getstate__(self) -> dict[str, object]:
        """The attributes that a copy has."""
        return vars(self)

    def __setstate__(self, state: dict[str, object]) -> None:
        """Become what `state` says."""
        vars(self).update(state)


def _restore(cls: type[Copyable], saved: bytes) -> Copyable:
    made = object.__new__(cls)
    made.__setstate__(_Unpickler(io.BytesIO(saved), made, ()).load())
    return made


def save(owner: object, state: object, known: Iterable[object] = (), limit: int | None = None) -> bytes:
    """Save a state.

    Args:
        owner: the object itself.
        state: of it.
        known: objects that are left out; `load` gets those that take their places, in the same order.
        limit: most bytes; None for any number.

    Raises:
        TooLarge: it is larger. The work until then is bounded by the limit, too, but for single large buffers.
    """
    file = io.BytesIO() if limit is None else _Bounded(limit)
    _Pickler(file, owner, known).dump(state)
    return file.getvalue()


def load(saved: bytes, owner: object, known: Iterable[object] = ()) -> dict[str, object]:
    """Load a state that may come from a stranger.

    Args:
        saved: the result of `save`.
        owner: takes the place of the object itself.
        known: as for `save`.

    Raises:
        ValueError: it is damaged, or has something that no state has.
    """
    reader = _StrangersUnpickler(io.BytesIO(saved), owner, known)
    try:
        state = reader.load()
    except Exception as error:  # any, from bytes that are no pickle
        raise ValueError(f"the saved state cannot be read: {type(error).__name__}: {error}") from None
    finally:
        changed = reader.undo()
    if changed or not isinstance(state, dict):
        raise ValueError("the saved state has something that no network has")
    return state


class _Bounded(io.BytesIO):
    def __init__(self, limit: int) -> None:
        super().__init__()
        self._left = limit

    def write(self, data: Any, /) -> int:
        self._left -= len(data)
        if self._left < 0:
            raise TooLarge
        return super().write(data)


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, owner: object, known: Iterable[object]) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._known: dict[int, str] = {id(obj): f"known {number}" for number, obj in enumerate(known)}
        self._known[id(owner)] = _OWNER

    def persistent_id(self, obj: object) -> str | None:
        if type(obj) is str:
            return obj if obj in _STATES else None
        return self._known.get(id(obj))

    def reducer_override(self, obj: object) -> Any:
        if isinstance(obj, memoryview):
            return memoryview, (bytes(obj),)
        if isinstance(obj, Enum):  # before Python 3.11.4, by `getattr`
            return type(obj), (obj.value,)
        return NotImplemented


def _by_name(owner: object, known: Iterable[object]) -> dict[str, object]:
    """The objects that are not in a saved state, by the names that it has for them."""
    found: dict[str, object] = {f"known {number}": obj for number, obj in enumerate(known)}
    return found | {_OWNER: owner, **_STATES}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, owner: object, known: Iterable[object]) -> None:
        super().__init__(file)
        self._known = _by_name(owner, known)

    def persistent_load(self, pid: Any) -> object:
        return self._known[pid]


# operations of a pickle: each works on the stack of a reader, which is a _StrangersUnpickler

_RIGHT: Final[Any] = pickle._Unpickler


def _load_bytearray(reader: Any) -> None:
    """A bytearray, not larger than the bytes that follow."""
    reader.stack.append(bytearray(reader.read(_SIZE.unpack(reader.read(_SIZE.size))[0])))


def _load_build(reader: Any) -> None:
    """The attributes of an object."""
    owner, state = reader.stack[-2:]
    of_core = type(owner).__module__.startswith(_PACKAGE) and not isinstance(owner, type | Enum)
    if not of_core and type(owner) is not partial:
        raise ValueError(f"no network has a changed {type(owner).__name__}")
    _RIGHT.load_build(reader)
    reader.weigh(owner, state)


def _load_made(operation: str, reader: Any) -> None:
    """The result of a class or a function that is called with arguments."""
    arguments = reader.stack[-1]
    getattr(_RIGHT, operation)(reader)
    reader.weigh(reader.stack[-1], arguments)


def _load_parts(operation: str, reader: Any) -> None:
    """A tuple or a frozenset."""
    getattr(_RIGHT, operation)(reader)
    reader.weigh(reader.stack[-1], reader.stack[-1])


_OPERATIONS: Final[dict[bytes, Callable[[Any], None]]] = {
    pickle.BYTEARRAY8: _load_bytearray,
    pickle.BUILD: _load_build,
    pickle.REDUCE: partial(_load_made, "load_reduce"),
    pickle.NEWOBJ: partial(_load_made, "load_newobj"),
    pickle.TUPLE: partial(_load_parts, "load_tuple"),
    pickle.TUPLE1: partial(_load_parts, "load_tuple1"),
    pickle.TUPLE2: partial(_load_parts, "load_tuple2"),
    pickle.TUPLE3: partial(_load_parts, "load_tuple3"),
    pickle.FROZENSET: partial(_load_parts, "load_frozenset"),
}


class _StrangersUnpickler(pickle._Unpickler):
    """Finds nothing that does more than compute.

    It is the one that is written in Python: the other one makes a table as large as a number in the file says.
    """

    dispatch = pickle._Unpickler.dispatch | {code[0]: load for code, load in _OPERATIONS.items()}

    def __init__(self, file: io.BytesIO, owner: object, known: Iterable[object]) -> None:
        super().__init__(file)
        self._known = _by_name(owner, known)
        self._found: dict[type, dict[str, object]] = {}
        self._weights: dict[int, int] = {}
        """By the identity of tuples, and of other values whose hash is computed from their parts."""
        self._weighed: list[object] = []
        """Those values: while they exist, no other one has the same identity."""

    def persistent_load(self, pid: Any) -> object:
        if type(pid) is not str:
            raise ValueError("a name is missing")
        return self._known[pid]

    def weigh(self, value: object, parts: object) -> None:
        """Weigh a value by its parts.

        Raises:
            ValueError: it is too heavy.
        """
        if not isinstance(value, tuple | frozenset) and getattr(type(value), "__hash__", None) in _BY_IDENTITY:
            return
        weight = 1 + sum(self._weights.get(id(each), 1) for each in _parts(parts))
        if weight > _MAX_WEIGHT:
            raise ValueError("one of its values has too many parts")
        if weight > self._weights.get(id(value), 1):
            self._weights[id(value)] = weight
            self._weighed.append(value)

    def find_class(self, module: str, name: str, /) -> object:
        if (module, name) == ("builtins", "getattr"):
            return _method
        if (module, name) in _CONTAINERS:
            return _CONTAINERS[module, name]
        if not module.startswith(_PACKAGE) or _is_within(module, _NOT_STATE):
            raise ValueError(f"no network has a {module}.{name}"[:200])
        value = vars(import_module(module)).get(name)
        if isinstance(value, _FUNCTION) and _is_within(module, _FUNCTIONS) and value.__module__ == module:
            return value
        if not isinstance(value, type) or value.__module__ != module:
            raise ValueError(f"no network has a {module}.{name}"[:200])
        self._found.setdefault(value, dict(vars(value)))
        return value

    def undo(self) -> bool:
        """Undo changes of classes; whether there were any."""
        changed = False
        for cls, before in self._found.items():
            for name in vars(cls).keys() | before.keys():
                if vars(cls).get(name) is not before.get(name):
                    changed = True
                    if name in before:
                        type.__setattr__(cls, name, before[name])
                    else:
                        type.__delattr__(cls, name)
        return changed


def _parts(state: object) -> Iterable[object]:
    """The parts of a container: the attributes, if it has them by name."""
    if isinstance(state, dict):
        return list(state.values())
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):  # attributes, and those in slots
        return [*_parts(state[0]), *state[1].values()]
    return state if isinstance(state, tuple | list | set | frozenset) else ()


def _is_within(module: str, places: Iterable[str]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


def _method(owner: object, name: str) -> Callable[..., object]:
    """A method of an object of the core, or of a container; takes the place of `getattr`."""
    cls = type(owner)
    found = getattr(cls, name, None)
    if isinstance(found, MethodDescriptorType):  # a compiled method
        of_core = found.__objclass__.__module__.startswith(_PACKAGE) and not name.startswith("__")
    else:
        of_core = cls.__module__.startswith(_PACKAGE) and isinstance(found, FunctionType)
    if not of_core and not (cls in _WITH_METHODS and name in _METHODS):
        raise ValueError(f"no network has a method {name!r:.100}")
    return cast("Callable[..., object]", getattr(owner, name))
