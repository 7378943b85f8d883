"""What the metrics of all modules share. Each module declares its own beside what it measures.

Names follow Prometheus: prefix `sonant_`, base units (`_seconds`, `_bytes`), `_total` on counters only. The values of a
label are ours or the operator's, never a client's: a client cannot make series.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from time import perf_counter

from prometheus_client import Info, disable_created_metrics

# A second series for each, with the time at which it began: Prometheus finds restarts without it.
disable_created_metrics()  # type: ignore[no-untyped-call]

# HTTP and scheduling are meant to add no more than 3 ms; a request has 60 s by default. Three steps a decade, so that a
# quantile is known to a factor of about two.
SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0)
# The padded share of a batch is 0.1 at most by default, and 0.05 is what is hoped for.
RATIO_BUCKETS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
# Batches of a CPU have one or two clips, those of a large GPU some hundred.
COUNT_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

# What a label says where there is nothing to say, such as the model of a request that named one that is not there.
NONE = "none"
BUILD = Info("sonant_build", "Versions of what serves.")


@contextmanager
def stage(timings: dict[str, float], name: str) -> Iterator[None]:
    """Add the seconds inside to `timings`."""
    started = perf_counter()
    try:
        yield
    finally:
        timings[name] = timings.get(name, 0.0) + perf_counter() - started


def _version_of(*packages: str) -> str:
    """Return the version of the first of `packages` that is installed."""
    for package in packages:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return NONE


BUILD.info(
    {
        "version": _version_of("sonant"),
        "onnxruntime": _version_of("onnxruntime", "onnxruntime-gpu"),
        "python": platform.python_version(),
    }
)
