"""The list of survivors is in order: each entry has a reason, and its code is still there."""

from __future__ import annotations

import tomllib

import pytest

from tests.mutation.areas import CORE, folders_of_tests, modules
from tests.mutation.mutants import Mutant, as_toml, is_default, known, parse

KNOWN = known()


@pytest.mark.parametrize("mutant", KNOWN, ids=lambda one: f"{one.module} {one.function} {one.after}")
def test_every_survivor_is_explained(mutant: Mutant) -> None:
    assert len(KNOWN[mutant]) > 10
    code = " ".join((CORE / mutant.module).read_text().split())
    assert mutant.before.partition(" # ")[0] in code
    assert mutant.before != mutant.after


def test_a_name_of_mutmut_is_read() -> None:
    click = "\N{LATIN LETTER LATERAL CLICK}"
    diff = "--- a\n+++ b\n@@ -1 +1 @@\n def f():\n-    return 1\n+    return 2\n"
    mutant = Mutant("wire/arp.py", "Arp.parse", "return 1", "return 2")
    assert parse(f"sansnet_core.wire.arp.x{click}Arp{click}parse__mutmut_12", diff) == mutant
    assert parse("sansnet_core.wire.arp.x_parse__mutmut_1", diff).function == "parse"


def test_an_entry_can_be_read_again() -> None:
    mutants = [Mutant("wire/arp.py", "parse", "a = 'x'", 'b = "y\\n"'), Mutant("wire/arp.py", "parse", "a", "b")]
    entries = tomllib.loads(as_toml(mutants))["mutant"]
    assert [Mutant(one["module"], one["function"], one["before"], one["after"]) for one in entries] == mutants


def test_a_byte_order_that_is_the_default_one_may_be_left_out() -> None:
    before = 'a.to_bytes(2, "big") + b.to_bytes(2, "big")'
    afters = 'a.to_bytes(2, "big") + b.to_bytes(2, )', 'a.to_bytes(2, "big") + b.to_bytes(3, "big")'
    assert [is_default(Mutant("wire/arp.py", "parse", before, after)) for after in afters] == [True, False]


def test_names_of_modules_and_folders() -> None:
    assert modules(["wire/arp.py"]) == ["wire/arp.py"]
    assert "proto/tcp/sending.py" in modules(["proto/tcp"])
    assert folders_of_tests(["wire/arp.py"]) == ["tests/core/wire", "tests/core/test_summary.py", "tests/core/proto"]
    with pytest.raises(ValueError, match=r"network\.py"):
        modules(["network.py"])
