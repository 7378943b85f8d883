"""When a call that failed is tried again, and when it is given up."""

from __future__ import annotations

import random
import time

from sonant.client.errors import ClientError

# The first pause where the server does not say one, doubled after each failure up to the longest, in seconds.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
# Clients that were refused together are not to come back together: up to this share of the pause is added, by chance.
SPREAD = 0.25


class Retries:
    """The failures of one call: up to `times` retries, which begin within `seconds` from now on."""

    def __init__(self, times: int, seconds: float) -> None:
        self._left = times
        self._end = time.monotonic() + seconds
        self._pause = FIRST_PAUSE

    def pause(self, error: ClientError) -> float | None:
        """Return the seconds to wait after `error` before the next try; None where there is none."""
        if not error.is_temporary or self._left <= 0:
            return None
        self._left -= 1
        pause = self._pause if error.retry_after is None else error.retry_after
        pause *= 1 + SPREAD * random.random()  # noqa: S311  # nothing is secret about it
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        return pause if time.monotonic() + pause <= self._end else None
