from __future__ import annotations

from pathlib import Path

import pytest

from engines import host
from sonant.doctor import clock

DAY = 86_400


def test_a_clock_that_stands_before_the_installation() -> None:
    installed = 1_800_000_000.0
    assert clock._time_of_day(installed, installed).status == "ok"
    assert clock._time_of_day(installed - DAY / 2, installed).status == "ok"  # of another time zone, in an archive
    found = clock._time_of_day(installed - 2 * DAY, installed)
    assert (found.status, "2027-01-13" in found.found) == ("problem", True)


@pytest.mark.parametrize(("state", "status"), [(None, "not here"), (0, "ok"), (5, "warning")])
def test_who_keeps_the_time(state: int | None, status: str) -> None:
    assert clock._synchronised(state).status == status


@pytest.mark.parametrize(("seconds", "status"), [(5e-8, "ok"), (2e-6, "warning")])
def test_a_source_that_is_slow(seconds: float, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "devices/system/clocksource/clocksource0"
    folder.mkdir(parents=True)
    (folder / "current_clocksource").write_text("hpet\n")
    monkeypatch.setattr(host, "SYSTEM", tmp_path)
    monkeypatch.setattr(clock, "_seconds_per_reading", lambda: seconds)
    found = clock._source()
    assert (found.status, found.found) == (status, f"hpet, {seconds * 1e9:.0f} ns to read")


def test_this_host() -> None:
    assert [found.name for found in clock.check()] == ["time of day", "synchronised", "source"]
