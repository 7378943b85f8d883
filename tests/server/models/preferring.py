"""`python -m tests.server.models.preferring serve ...`: the real server, which is soon idle and prefers exact forms.

So does the process that measures: however fast the forms turn out to be, the most exact one is the best.
"""

from __future__ import annotations

import sys

from server.calibration import background

PREFER = "from server.calibration import decide, race; race.CLOSE, decide.SAME = 1e6, 1 - 1e-6; "
PREFER += "from sonant.commands import calibrate; calibrate.NICENESS = 0; "

if __name__ == "__main__":
    from sonant.cli import main

    background.QUIET_SECONDS = 0.5
    background.MEASURE_SECONDS = 1.0
    paths, rest = background.PROGRAM.split("; ", 1)
    before, after = rest.split("; ", 1)
    background.PROGRAM = f"{paths}; {before}; {PREFER}{after}"
    sys.exit(main())
