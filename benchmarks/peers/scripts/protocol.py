"""How a contestant's process is asked for work: a line of JSON in, a line of JSON out.

It is started with its options as its one argument, says `ready` or `failed`, and then answers one request at a time:
`{"run": FILE, "padded": false, "keep": null}` runs the clips of FILE, one after the other or all as one padded batch,
and says how many `seconds` passed between their waveforms and their embeddings in numpy. With `keep`, these are
written there.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

PR_SET_PDEATHSIG = 1  # of prctl(2)
Clip = NDArray[np.float32]  # [samples], mono, at the model's sample rate
Rows = list[NDArray[np.float32]]  # of each clip its embeddings [frames, hidden]


class Contestant(Protocol):
    """A model that is ready."""

    def alone(self, clip: Clip) -> NDArray[np.float32]:
        """Return the embeddings [frames, hidden] of a clip."""

    def padded(self, clips: Sequence[Clip]) -> Rows:
        """Return the embeddings of clips that run as one padded batch."""


def serve(load: Callable[[dict[str, Any]], Contestant]) -> None:
    """Load a contestant and answer until the input ends; `load` takes the options, and raises what it likes."""
    end_with_parent()
    # What libraries print goes to stderr: the answers have the output to themselves.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    options: dict[str, Any] = json.loads(sys.argv[1])

    def answer(**what: object) -> None:
        print(json.dumps(what), file=answers, flush=True)

    try:
        begin = time.perf_counter()
        contestant = load(options)
        answer(ready=True, seconds=time.perf_counter() - begin)
    except Exception as error:
        traceback.print_exc()
        answer(failed=reason(error))
        return
    for line in sys.stdin:
        try:
            answer(**_run(contestant, json.loads(line)))
        except Exception as error:
            traceback.print_exc()
            answer(failed=reason(error))


def end_with_parent() -> None:
    """End when the process that asks does, even where this one stands still: Linux alone can do that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def reason(error: Exception) -> str:
    """Return what went wrong, on a line."""
    said = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return f"{type(error).__name__}: {said[0] if said else 'no message'}"[:300]


def _run(contestant: Contestant, request: dict[str, Any]) -> dict[str, object]:
    with np.load(request["run"]) as file:
        clips = [file[name] for name in file.files]
    begin = time.perf_counter()
    rows = contestant.padded(clips) if request["padded"] else [contestant.alone(clip) for clip in clips]
    seconds = time.perf_counter() - begin
    if request["keep"]:
        np.savez(Path(request["keep"]), *rows)
    return {"seconds": seconds}
