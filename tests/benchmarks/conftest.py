"""The modules of `benchmarks/` are programs, not a package: they are found as those programs find them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
