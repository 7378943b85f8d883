"""The memory of a GPU that one session keeps for its batches, and when it gives it back.

ONNX Runtime's arena keeps what the largest batch has taken. To give it back after every batch would cost a call of the
driver for every array of the next; never to do so, the memory that other engines on the same GPU need.
"""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakSet

# A run with this entry ends with giving back what is unused of the arenas of the devices that it names
# (onnxruntime_run_options_config_keys.h).
SHRINK = "memory.enable_memory_arena_shrinkage"
# What a large batch has taken is given back after so many that needed less than half: a minute's worth on a busy GPU.
SMALL_RUNS = 256

_all: WeakSet[Arena] = WeakSet()
_lock = threading.Lock()


class Arena:
    """The arena of one session; safe to share between threads."""

    def __init__(self, device_id: int) -> None:
        self.device_id = device_id
        self._largest = 0  # padded samples of a run, of late
        self._small_runs = 0
        self._is_to_shrink = False
        with _lock:
            _all.add(self)

    def short(self) -> None:
        """Say that a run found no memory: all sessions on that GPU give back what they can with their next run."""
        with _lock:
            for arena in _all:
                if arena.device_id == self.device_id:
                    arena._is_to_shrink = True

    def run_options(self, samples: int) -> Any:
        """Return the options of a run of so many padded samples, 0 for a step of a decoder; None: the usual ones."""
        with _lock:
            if 2 * samples > self._largest:
                self._largest = max(samples, self._largest)
                self._small_runs = 0
            elif samples:
                self._small_runs += 1
            if not self._is_to_shrink and self._small_runs < SMALL_RUNS:
                return None
            self._largest, self._small_runs, self._is_to_shrink = samples, 0, False
        from onnxruntime import RunOptions

        options = RunOptions()
        options.add_run_config_entry(SHRINK, f"gpu:{self.device_id}")
        return options
