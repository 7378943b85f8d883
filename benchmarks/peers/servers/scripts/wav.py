"""WAV files."""

from __future__ import annotations

import io

import numpy as np
import soundfile
from numpy.typing import NDArray

Clip = NDArray[np.float32]  # [samples], mono, at the rate of the model


def decode(body: bytes) -> Clip:
    """Return the samples of a file."""
    clip: Clip = soundfile.read(io.BytesIO(body), dtype="float32")[0]
    return clip
