"""Prints what mutants change, as JSON: name -> unified diff; mutmut's environment runs this file, for all at once."""

from __future__ import annotations

import json
import sys
from importlib import import_module

diff = import_module("mutmut.mutation.diff_apply").get_diff_for_mutant  # .venv has no mutmut
print(json.dumps({name: diff(name) for name in sys.argv[1:]}))
