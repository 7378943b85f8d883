"""The libraries that read audio: what they must be able to read is written and read again."""

from __future__ import annotations

import io
from collections.abc import Iterator

from sonant.doctor.finding import Finding, absent, ok, problem
from sonant.doctor.request import Job, Request

# What clients send, as libsndfile names container and coding.
FORMATS = {
    "WAV": ("WAV", "PCM_16"),
    "FLAC": ("FLAC", "PCM_16"),
    "Vorbis": ("OGG", "VORBIS"),
    "Opus": ("OGG", "OPUS"),
    "MP3": ("MP3", "MPEG_LAYER_III"),
    "AIFF": ("AIFF", "PCM_16"),
}
SAMPLE_RATE, SAMPLES = 48_000, 4_800
MEND = (
    "pip install --force-reinstall soundfile: its wheels bring a libsndfile that reads them, the system's may be older"
)


def jobs(request: Request) -> Iterator[Job]:
    """Yield the checks: what a damaged library does to one, it does not do to the other."""
    yield Job("soundfile", {"library": "soundfile"}, mend=MEND)
    yield Job("soxr", {"library": "soxr"}, mend="pip install --force-reinstall soxr")


def check(library: str) -> Iterator[Finding]:
    """Decode each format, or resample."""
    try:
        yield _formats() if library == "soundfile" else _resampling()
    except ImportError as error:
        yield absent(library, str(error), "pip install 'sonant[serve]'")
    except OSError as error:  # libsndfile itself cannot be loaded
        yield problem(library, str(error), MEND)


def _formats() -> Finding:
    import soundfile

    failed = {name: reason for name in FORMATS if (reason := _unread(*FORMATS[name]))}
    if failed:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        return problem("soundfile", f"libsndfile {soundfile.__libsndfile_version__} cannot read {reasons}", MEND)
    return ok("soundfile", f"libsndfile {soundfile.__libsndfile_version__} reads {', '.join(FORMATS)}")


def _unread(container: str, coding: str) -> str | None:
    """Return why a short noise does not come back from a file of this kind; None if it does."""
    import numpy as np
    import soundfile

    noise = np.random.default_rng(0).uniform(-0.5, 0.5, SAMPLES).astype(np.float32)
    file = io.BytesIO()
    try:
        soundfile.write(file, noise, SAMPLE_RATE, format=container, subtype=coding)
        file.seek(0)
        samples, rate = soundfile.read(file, dtype="float32")
    except (RuntimeError, ValueError) as error:
        return str(error)
    # A coder may add a frame of silence; what it drops or silences was not read.
    heard = len(samples) >= SAMPLES and float(np.abs(samples).max()) > float(np.abs(noise).max()) / 4
    return None if heard and rate == SAMPLE_RATE else f"{len(samples)} samples came back of {SAMPLES}"


def _resampling() -> Finding:
    import numpy as np
    import soxr

    found = soxr.resample(np.ones(SAMPLES, np.float32), SAMPLE_RATE, SAMPLE_RATE // 3, quality="HQ")
    if len(found) == SAMPLES // 3 and abs(float(found[len(found) // 2]) - 1) < 1e-3:
        return ok("soxr", f"{soxr.__version__} resamples")
    return problem("soxr", "it does not resample as it must", "pip install --force-reinstall soxr")
