"""An engine of ours in one of its forms, by the same protocol as those that it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.engines.opened import embeddings, in_form
from benchmarks.peers.scripts.protocol import Clip, Rows, serve


class SonantEngine:
    """An engine that computes embeddings in one form and no other."""

    def __init__(self, folder: Path, form: str, threads: int) -> None:
        """Open the engine in `folder`; EngineError where the form does not work here."""
        self._engine = in_form(folder, form, threads)

    def alone(self, clip: Clip) -> NDArray[np.float32]:
        """Return the embeddings of a clip."""
        return embeddings(self._engine, [clip])[0]

    def padded(self, clips: Sequence[Clip]) -> Rows:
        """Return the embeddings of a batch, which are those of the clips alone."""
        return embeddings(self._engine, clips)


def load(options: dict[str, Any]) -> SonantEngine:
    """Open the engine of `options` in its `form`."""
    return SonantEngine(Path(options["engine"]), options["form"], options["threads"])


if __name__ == "__main__":
    serve(load)
