"""A contestant for tests: its embeddings are the clips themselves, times `scale`; told to, it fails as real ones do."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.scripts.protocol import Clip, Rows, serve


class Scaled:
    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options

    def alone(self, clip: Clip) -> NDArray[np.float32]:
        match self._options.get("at_work"):
            case "fail":
                raise ArithmeticError("no such length\nand more of it")
            case "die":
                os._exit(3)
            case "hang":
                time.sleep(60.0)
        os.write(1, b"libraries print\n")
        scale: float = self._options["scale"]
        return (scale * clip[:, None]).astype(np.float32)

    def padded(self, clips: Sequence[Clip]) -> Rows:
        longest = max(clip.size for clip in clips)
        return [self.alone(np.pad(clip, (0, longest - clip.size))) for clip in clips]


def load(options: dict[str, Any]) -> Scaled:
    if "at_load" in options:
        raise FileNotFoundError(options["at_load"])
    return Scaled(options)


if __name__ == "__main__":
    serve(load)
