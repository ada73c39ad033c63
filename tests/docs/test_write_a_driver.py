"""The contract for drivers on its page: every order, every method, and the facts that answer the orders."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Final, get_args

import sansnet_core
from sansnet_core import Network, Order
from sansnet_core import notices as core_notices

PAGE: Final = (Path(__file__).parents[2] / "docs/write-a-driver.md").read_text()
METHODS: Final = {
    name: method for name, method in inspect.getmembers(Network, inspect.isfunction) if not name.startswith("_")
}
INPUTS: Final = {name for name, method in METHODS.items() if "now" in inspect.signature(method).parameters}


def table(heading: str) -> dict[str, list[str]]:
    """The rows of the table below a heading: the name in its first cell -> the other cells."""
    _, _, rest = PAGE.partition(f"\n## {heading}\n")
    rows = re.findall(r"^\| (.*) \|$", rest.partition("\n## ")[0], re.MULTILINE)
    cells = [row.split(" | ") for row in rows[1:]]
    return {first.strip("`"): others for first, *others in cells}


def named(text: str) -> set[str]:
    return set(re.findall(r"`(\w+)", text))


def test_every_order_has_a_row() -> None:
    assert set(table("Orders")) == {order.__name__ for order in get_args(Order)}


def test_every_input_has_a_row() -> None:
    assert set(table("Facts")) == INPUTS


def test_orders_are_answered_by_facts_that_exist() -> None:
    for order, (_, facts, *_) in table("Orders").items():
        assert named(facts) <= INPUTS, order


def test_facts_about_orders_that_the_page_describes_name_them() -> None:
    """The docstrings of the orders and the page agree about the outcomes."""
    for order, (_, facts, *_) in table("Orders").items():
        documented = named(inspect.getdoc(getattr(sansnet_core, order)) or "") & INPUTS
        assert documented <= named(facts), order


def test_every_other_method_has_its_kind() -> None:
    kinds = table("Which methods there are, and who may call them")
    said = {name: kind for kind, (names, *_) in kinds.items() for name in named(names)} | dict.fromkeys(
        INPUTS, "inputs"
    )
    assert set(METHODS) - set(said) == set()
    assert {name for name in METHODS if name.startswith("take_")} == {
        name for name, kind in said.items() if kind == "outputs"
    }


def test_every_notice_is_named() -> None:
    _, _, rest = PAGE.partition("\n## Notices\n")
    assert {notice.__name__ for notice in get_args(core_notices.Notice)} <= named(rest.partition("\n## ")[0])
