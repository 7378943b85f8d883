from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from server.calibration import peak
from server.calibration.peak import held_up, peak_bytes

MIB = 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_the_peak_is_that_of_the_call() -> None:
    def take(mebibytes: int) -> None:
        np.ones(mebibytes * MIB, np.uint8).sum()

    large, small = peak_bytes(lambda: take(200)), peak_bytes(lambda: take(50))
    assert large is not None
    assert small is not None
    assert 195 * MIB <= large <= 260 * MIB
    assert 45 * MIB <= small <= 110 * MIB


def test_where_the_kernel_does_not_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak, "PROCESS", tmp_path / "nowhere")
    monkeypatch.setattr(peak, "THREAD", tmp_path / "nowhere")
    assert peak_bytes(lambda: None) is None
    assert held_up() == 0.0


@pytest.mark.skipif(not (peak.THREAD / "schedstat").is_file(), reason="needs the kernel's sched-stats")
def test_a_thread_is_held_up_by_another_on_its_processor() -> None:
    """Both keep the same processor busy: each is held up for about as long as it runs."""
    code = f"import os; os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}})\nwhile True: pass"
    usable = os.sched_getaffinity(0)
    with subprocess.Popen([sys.executable, "-c", code]) as other:
        try:
            os.sched_setaffinity(0, {min(usable)})
            before, end = held_up(), time.monotonic() + 60
            while held_up() < before + 0.1:
                assert time.monotonic() < end
        finally:
            os.sched_setaffinity(0, usable)
            other.kill()
