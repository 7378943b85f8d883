"""What each frame of a CTC model says about each token: what the search, the sum and the alignment read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from server.decoding.ctc import CtcDecoder

# The log-probability of what cannot be: finite, so that differences of it are numbers, and below any sum over frames.
NEVER = -1e300
LOWEST = -1e38  # of a frame: what float32 holds


@dataclass(frozen=True)
class Frames:
    """Log-probabilities in float64: `emit` [frames, columns] of each token, `skip` [frames] of the special ones.

    A frame of a special token is as if it were not there: it neither ends a token nor begins one, so that each path
    belongs to one text, the one that greedy decoding gives to it. `blank` is a column.
    """

    emit: NDArray[np.float64]
    skip: NDArray[np.float64]
    blank: int

    def __len__(self) -> int:
        return len(self.emit)


class Columns:
    """The columns that the tokens of a vocabulary have in `Frames`: ids that share a token have one."""

    def __init__(self, decoder: CtcDecoder) -> None:
        emitting = np.flatnonzero(~decoder.skipped)
        self.ids = np.unique(decoder.same[emitting])
        self.blank = int(np.searchsorted(self.ids, decoder.blank))
        self._skipped = np.flatnonzero(decoder.skipped)
        # The ids that share a token with the one that has the column.
        others = emitting[decoder.same[emitting] != emitting]
        self._others = [(int(np.searchsorted(self.ids, decoder.same[other])), int(other)) for other in others]

    def of(self, tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the columns of `tokens`, which are ids that have one."""
        return np.searchsorted(self.ids, tokens)

    def frames(self, log_probabilities: NDArray[np.floating], together: np.ufunc = np.logaddexp) -> Frames:
        """Return what `log_probabilities` [frames, vocabulary] say.

        What shares a column is put `together`: np.logaddexp for the probability of either, np.maximum for the best.
        """
        wide = np.maximum(log_probabilities, LOWEST, dtype=np.float64)
        emit = wide[:, self.ids]
        for column, other in self._others:
            emit[:, column] = together(emit[:, column], wide[:, other])
        return Frames(emit, together.reduce(wide[:, self._skipped], axis=1, initial=NEVER), self.blank)
