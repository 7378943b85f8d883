"""The clips by which trained models are judged, and those that precisions are calibrated on."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.machine import ROOT

# Whose speech models of true size are calibrated on: they are random.
ANY_SPEECH = "hubert-ctc-english"


def prepare(cache: Path) -> Path | None:
    """Return the folder of what `demo.held_out` writes, which is made if it is not there; None where nothing speaks."""
    folder = cache / "held-out"
    if not folder.is_dir():
        if shutil.which("espeak-ng") is None:
            print("benchmark: espeak-ng is not installed: no quality is measured", file=sys.stderr)
            return None
        partial = folder.with_name("held-out.partial")
        subprocess.run([sys.executable, "-m", "demo.held_out", str(partial)], cwd=ROOT, check=True)
        partial.rename(folder)
    return folder


def clips(folder: Path | None, name: str) -> Path | None:
    """Return the held-out clips of the checkpoint `name`; None where there are none."""
    return folder / name if folder is not None and (folder / name).is_dir() else None


def calibration(folder: Path | None, name: str) -> Path | None:
    """Return the audio to calibrate the checkpoint `name` on; None where there is none."""
    if folder is None:
        return None
    own, any_speech = (folder / "calibration" / each for each in (name, ANY_SPEECH))
    return next((each for each in (own, any_speech) if each.is_dir()), None)
