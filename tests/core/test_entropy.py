"""Numbers follow from the secret, wherever the hash comes from."""

from __future__ import annotations

import subprocess
import sys

from sansnet_core.entropy import Entropy

SECRET = bytes(range(32))


def test_one_secret_gives_the_same_numbers_and_another_one_others() -> None:
    def numbers(secret: bytes) -> list[int]:
        made = Entropy(secret)
        return [made.next(32), made.next(32), made.keyed(b"port", b"data"), made.initial_sequence(b"ends", 1.0)]

    assert numbers(SECRET) == numbers(SECRET)
    assert not set(numbers(SECRET)) & set(numbers(SECRET[:-1]))
    assert len(set(numbers(SECRET))) == 4


def test_the_public_name_of_the_hash_gives_the_same_numbers() -> None:
    """The module `_blake2` is one that Python may rename."""
    code = f"""
import hashlib, sys
sys.modules["_blake2"] = None
from sansnet_core.entropy import Entropy
print(Entropy({SECRET!r}).keyed(b"port", b"data"))
"""
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert int(output) == Entropy(SECRET).keyed(b"port", b"data")
