"""The guest's command has the environment of its caller, of which sansnet itself heeds nothing that Python would."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.lab import Lab


def test_the_command_has_the_callers_pythonpath(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "trio.py").write_text("raise SystemExit('imported')")
    tmp_path.chmod(0o755)
    line = lab.sansnet_command([], ["sh", "-c", 'echo "$PYTHONPATH"'], user=None, before="")
    line[line.index("env") + 1 : line.index("env") + 1] = [f"PYTHONPATH={tmp_path}"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{tmp_path}\n", "")
