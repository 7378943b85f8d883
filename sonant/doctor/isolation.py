"""A check in a process of its own: a library that crashes or hangs takes nothing else with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress

from sonant.doctor.finding import Finding, problem
from sonant.doctor.request import Job

# A process that was killed is gone at once, unless it waits inside a driver: then nobody can end it.
GONE_WITHIN_SECONDS = 5.0
# Of what a library says when it ends the process.
LAST_WORDS = 300


def run(subject: str, job: Job) -> list[Finding]:
    """Return what the check has found; a problem if it crashes, hangs or fails."""
    # -P: files of the folder that we are started in are not taken for packages.
    command = [sys.executable, "-P", "-m", "sonant.doctor.child", subject, json.dumps(dict(job.arguments))]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            answer, words = process.communicate(timeout=job.seconds)
        except subprocess.TimeoutExpired:
            return [problem(job.name, f"no answer within {job.seconds:g} s", job.mend)]
        finally:
            _end(process)
    if process.returncode == 0:
        return [Finding(**found) for found in json.loads(answer)]
    return [problem(job.name, _how_it_ended(process.returncode, words), job.mend)]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the process and of those that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(GONE_WITHIN_SECONDS)
    except subprocess.TimeoutExpired:
        process.returncode = -signal.SIGKILL  # it is waited for no longer, also not at the end of the `with`


def _how_it_ended(status: int, words: bytes) -> str:
    """Return how a process ended that has not answered, with the last line that it printed."""
    lines = words.decode(errors="replace").strip().splitlines()
    said = f": {lines[-1][:LAST_WORDS]}" if lines else ""
    if status >= 0:
        return f"it failed{said}"
    return f"it crashed ({signal.strsignal(-status)}){said}"
