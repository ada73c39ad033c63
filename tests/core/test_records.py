"""Records behave like frozen, keyword-only dataclasses."""

from __future__ import annotations

import inspect
import pickle
from typing import TYPE_CHECKING

import pytest

from sansnet_core.records import Record, replace

if TYPE_CHECKING:
    from decimal import Decimal


class Point(Record):
    """Has one field without a default."""

    x: int
    y: int = 0


class Marked(Point):
    """Has a further field, another default for an inherited one, and a condition."""

    y: int = 1
    mark: str = "+"

    def __post_init__(self) -> None:
        if not self.mark:
            raise ValueError("no mark")

    @property
    def size(self) -> int:
        return self.x + self.y


class Late(Record):
    """Has a field whose type is imported for type checkers only."""

    decimal: Decimal


def test_fields_are_what_was_given_and_else_the_defaults() -> None:
    point = Point(x=1)
    assert (point.x, point.y) == (1, 0)
    assert (Point(x=1, y=2).x, Point(x=1, y=2).y) == (1, 2)


def test_a_subclass_has_the_fields_of_both() -> None:
    marked = Marked(x=3)
    assert (marked.x, marked.y, marked.mark, marked.size) == (3, 1, "+", 4)
    assert repr(marked) == "Marked(x=3, y=1, mark='+')"


class Named(Record):
    name: str = "n"


class NamedPoint(Marked, Named):
    z: int = 3


def test_a_record_of_two_kinds_has_the_fields_of_all() -> None:
    both = NamedPoint(x=1, name="p")
    assert (both.x, both.y, both.mark, both.name, both.z) == (1, 1, "+", "p", 3)
    assert repr(both) == "NamedPoint(x=1, y=1, mark='+', name='p', z=3)"
    assert isinstance(both, Named)


def test_missing_and_unknown_fields_are_named() -> None:
    """Type checkers refuse these calls; here the class itself must refuse them."""
    with pytest.raises(TypeError, match=r"Point needs x$"):
        Point(y=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"Point has no field z$"):
        Point(x=1, z=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"Point has no field z$"):
        Point(z=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Point(1)  # type: ignore[call-arg]


def test_fields_do_not_change() -> None:
    """Type checkers report these assignments, too."""
    point = Point(x=1)
    with pytest.raises(AttributeError, match=r"Point\.x cannot be changed"):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError, match=r"Point\.z cannot be changed"):
        point.z = 2
    with pytest.raises(AttributeError, match=r"Point\.x cannot be deleted"):
        del point.x
    assert point == Point(x=1)


def test_equal_are_records_of_one_class_with_equal_fields() -> None:
    assert Point(x=1) == Point(x=1, y=0)
    assert hash(Point(x=1)) == hash(Point(y=0, x=1))
    assert Point(x=1) != Point(x=2)
    assert Marked(x=1, y=0) != Point(x=1, y=0)
    assert Point(x=1) != (1, 0)


def test_a_replaced_field_leaves_the_others_and_the_original() -> None:
    marked = Marked(x=3, mark="*")
    assert replace(marked, y=5) == Marked(x=3, y=5, mark="*")
    assert marked == Marked(x=3, mark="*")
    with pytest.raises(TypeError, match=r"Marked has no field z$"):
        replace(marked, z=1)


def test_conditions_hold_however_a_record_is_made() -> None:
    with pytest.raises(ValueError, match="no mark"):
        Marked(x=1, mark="")
    with pytest.raises(ValueError, match="no mark"):
        replace(Marked(x=1), mark="")


def test_records_travel_to_other_processes() -> None:
    marked = Marked(x=3, mark="*")
    assert pickle.loads(pickle.dumps(marked)) == marked


def test_the_signature_shows_the_fields() -> None:
    assert str(inspect.signature(Point)) == "(*, x: int, y: int = 0)"
    assert str(inspect.signature(Marked)) == "(*, x: int, y: int = 1, mark: str = '+')"
    assert str(inspect.signature(Late)) == "(*, decimal: 'Decimal')"


def test_similar_fields_are_named() -> None:
    class Places(Record):
        first_address: int = 0
        gateway: int = 0

    for wrong, ending in (
        ("addres", "; similar ones are first_address"),
        ("gatway", "; similar ones are gateway"),
        ("z", ""),
    ):
        with pytest.raises(TypeError, match=f"Places has no field {wrong}{ending}$"):
            Places(**{wrong: 1})
