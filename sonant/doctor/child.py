"""The process of one check: `python -m sonant.doctor.child SUBJECT ARGUMENTS` prints its findings as JSON."""

from __future__ import annotations

import importlib
import json
import os
import sys
from dataclasses import asdict


def main(subject: str, arguments: str) -> None:
    """Make the check and end the process."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answer:
        os.dup2(2, 1)  # what libraries print is no part of the answer
        module = importlib.import_module(f"sonant.doctor.{subject}")
        json.dump([asdict(finding) for finding in module.check(**json.loads(arguments))], answer)
    os._exit(0)  # libraries of GPUs are known to crash when they are unloaded, which does not concern us


if __name__ == "__main__":
    main(*sys.argv[1:])
