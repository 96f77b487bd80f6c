"""What is in ``bench/`` runs in processes of its own: modules there have names of some here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[1] / "bench"


def run(*arguments: object, **variables: str) -> str:
    """Python with these arguments and environment variables; returns what it printed."""
    paths = [str(BENCH), *sys.path]  # this process's package, not an installed one
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | variables
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
