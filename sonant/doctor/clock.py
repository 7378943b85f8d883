"""The clocks: the time of day stands in the log, the other one says when a batch is due."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from pathlib import Path

from engines import host
from sonant.doctor.finding import Finding, absent, ok, problem, warning
from sonant.doctor.request import Job, Request

# adjtimex(2): what it returns where the clock is not synchronised, and room for its structure, which has 208 bytes
# on 64-bit Linux and asks for nothing to be changed when it is empty.
TIME_ERROR = 5
TIMEX_BYTES = 256
DAY_SECONDS = 86_400
READINGS = 10_000
# A scheduler reads it some times for each clip; sources that are slow (hpet, acpi_pm) take a microsecond or more.
SLOW_SECONDS = 1e-6


def jobs(request: Request) -> Iterator[Job]:
    """Yield the checks."""
    yield Job("clock")


def check() -> Iterator[Finding]:
    """Look at the time of day, at who keeps it, and at the clock that never goes back."""
    yield _time_of_day(time.time(), Path(__file__).stat().st_mtime)
    yield _synchronised(_adjtimex())
    yield _source()


def _time_of_day(now: float, installed: float) -> Finding:
    said = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now >= installed - DAY_SECONDS:
        return ok("time of day", said)
    return problem(
        "time of day",
        f"it is said to be {said}, before sonant was installed: TLS and logs go wrong",
        "set the clock, such as by `timedatectl set-ntp true`",
    )


def _synchronised(state: int | None) -> Finding:
    if state is None:
        return absent("synchronised", "the system does not say")
    if state != TIME_ERROR:
        return ok("synchronised", "with a time server")
    return warning(
        "synchronised", "no, or nobody says so", "`timedatectl set-ntp true`, lest log lines of hosts disagree"
    )


def _adjtimex() -> int | None:
    """Return the state of the kernel's clock; None where it cannot be asked."""
    ask = getattr(ctypes.CDLL(None), "adjtimex", None)
    state = -1 if ask is None else int(ask(ctypes.create_string_buffer(TIMEX_BYTES)))
    return None if state < 0 else state


def _source() -> Finding:
    file = host.SYSTEM / "devices/system/clocksource/clocksource0/current_clocksource"
    source = file.read_text().strip() if file.is_file() else "the system's"
    # The fastest of some runs: others use the processor too.
    seconds = min(_seconds_per_reading() for _ in range(5))
    found = f"{source}, {seconds * 1e9:.0f} ns to read"
    if seconds < SLOW_SECONDS:
        return ok("source", found)
    return warning("source", found, "use the processor's counter: boot with `clocksource=tsc`, if the host's is stable")


def _seconds_per_reading() -> float:
    begun = time.perf_counter()
    for _ in range(READINGS):
        time.monotonic()
    return (time.perf_counter() - begun) / READINGS
