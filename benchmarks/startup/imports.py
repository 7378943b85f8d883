"""What a server imports until it is ready, and how long each package takes: Python's own account of it."""

from __future__ import annotations

import re
import sys
from collections import Counter

# Makes Python write a line for each module: microseconds of its own, those with what it imports, and its name.
ACCOUNT = {"PYTHONPROFILEIMPORTTIME": "1"}
LINE = re.compile(r"^import time:\s+(\d+) \|\s+\d+ \| +(\S+)$", re.MULTILINE)
STANDARD = "Python's standard library"


def by_package(log: str) -> dict[str, float]:
    """Return milliseconds by package, without what it imports of others, the slowest first; `log` has the lines."""
    total: Counter[str] = Counter()
    for microseconds, module in LINE.findall(log):
        package = module.partition(".")[0]
        total[STANDARD if package in sys.stdlib_module_names else package] += int(microseconds)
    return {package: microseconds / 1e3 for package, microseconds in total.most_common()}
