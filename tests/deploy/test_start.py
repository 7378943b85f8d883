"""The first second of a server in a container: as process 1 it hears only of signals that it has a handler for."""

from __future__ import annotations

import subprocess
import sys

# SIGTERM, while the first module of the server is looked for.
PROGRAM = """
import os, signal, sys
from importlib.abc import MetaPathFinder
from sonant.cli import main

class Stop(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.startswith("server"):
            os.kill(os.getpid(), signal.SIGTERM)

sys.meta_path.insert(0, Stop())
main(["serve"])
"""


def test_a_signal_before_the_server_is_imported_ends_it_with_0() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
