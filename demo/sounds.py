"""Synthetic sound events: a dozen kinds, each drawn from a seed with wide ranges of pitch, tempo, level and background.

A clip is the event and a faint background of noise. Splits share no seed, and the speech of each split is spoken by
that split's own voices.
"""

from collections.abc import Callable

import numpy as np

from demo.augment import unit, white_to
from demo.speech import SAMPLE_RATE, Speech

CLIP_SECONDS = (0.8, 1.28)
SEEDS = {"train": 1_000_000, "dev": 2_000_000, "test": 3_000_000}
Rng = np.random.Generator


def _time(samples: int) -> np.ndarray:
    return np.arange(samples) / SAMPLE_RATE


def _swept(hertz: np.ndarray) -> np.ndarray:
    """Sine [samples] whose frequency follows `hertz` [samples]."""
    return np.sin(2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE)


def _log_uniform(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _decay(samples: int, seconds: float) -> np.ndarray:
    return np.exp(-_time(samples) / seconds)


def tone(samples: int, rng: Rng) -> np.ndarray:
    """Hold one steady sine of 250 to 4,000 Hz."""
    return np.sin(2 * np.pi * _log_uniform(rng, 250, 4000) * _time(samples) + rng.uniform(0, 6))


def chirp(samples: int, rng: Rng) -> np.ndarray:
    """Glide once, up or down, over an octave and a half or more."""
    low = _log_uniform(rng, 200, 1200)
    high = low * rng.uniform(3, 5.5)
    start, end = (low, high) if rng.random() < 0.5 else (high, low)
    return _swept(np.geomspace(start, end, samples))


def siren(samples: int, rng: Rng) -> np.ndarray:
    """Swing up and down 3 to 7 times a second, with a few harmonics."""
    swing = np.sin(2 * np.pi * rng.uniform(3, 7) * _time(samples) + rng.uniform(0, 6))
    hertz = _log_uniform(rng, 500, 1600) * 2 ** (rng.uniform(0.35, 0.8) * swing)
    return _swept(hertz) + rng.uniform(0, 0.4) * _swept(2 * hertz)


def beeps(samples: int, rng: Rng) -> np.ndarray:
    """Switch one sine on and off 4 to 9 times a second."""
    phase = (_time(samples) * rng.uniform(4, 9) + rng.random()) % 1
    gate = np.convolve(phase < rng.uniform(0.35, 0.6), np.ones(80) / 80, "same")
    return np.asarray(gate * np.sin(2 * np.pi * _log_uniform(rng, 500, 3500) * _time(samples)))


def noise(samples: int, rng: Rng) -> np.ndarray:
    """Hiss steadily, white to pink."""
    return white_to(rng.uniform(0, 0.5), samples, rng)


def wind(samples: int, rng: Rng) -> np.ndarray:
    """Blow: low noise that swells and falls."""
    gust = np.interp(_time(samples), np.linspace(0, 1.3, 6), rng.uniform(0.1, 1.0, 6))
    return np.asarray(white_to(rng.uniform(1.1, 1.6), samples, rng) * gust)


def hum(samples: int, rng: Rng) -> np.ndarray:
    """Drone: mains at 45 to 65 Hz with many weak harmonics."""
    base = rng.uniform(45, 65)
    partials = [np.sin(2 * np.pi * base * k * _time(samples) + rng.uniform(0, 6)) / k for k in range(1, 9)]
    return np.asarray(np.sum(partials * rng.uniform(0.3, 1, (8, 1)), axis=0))


def _struck(samples: int, rng: Rng, every: tuple[float, float], hit: Callable[[int], np.ndarray]) -> np.ndarray:
    """Sum `hit(samples left)` at intervals of `every` seconds, each of its own strength."""
    row = np.zeros(samples)
    at = int(rng.uniform(0.01, 0.1) * SAMPLE_RATE)
    while at < samples:
        row[at:] += rng.uniform(0.5, 1) * hit(samples - at)
        at += int(rng.uniform(*every) * SAMPLE_RATE)
    return row


def clicks(samples: int, rng: Rng) -> np.ndarray:
    """Tick: broadband impulses of about a millisecond."""
    seconds = rng.uniform(0.0004, 0.0015)
    return _struck(samples, rng, (0.05, 0.25), lambda left: rng.standard_normal(left) * _decay(left, seconds))


def knocks(samples: int, rng: Rng) -> np.ndarray:
    """Knock on wood: damped resonances of 90 to 400 Hz, 3 to 6 times a second."""
    hertz, seconds = rng.uniform(90, 400, 3), rng.uniform(0.015, 0.04)

    def hit(left: int) -> np.ndarray:
        body = np.sin(2 * np.pi * hertz[:, None] * _time(left)).sum(0)
        return np.asarray(body * _decay(left, seconds) + 0.3 * rng.standard_normal(left) * _decay(left, 0.003))

    return _struck(samples, rng, (0.16, 0.33), hit)


def bell(samples: int, rng: Rng) -> np.ndarray:
    """Strike a bell once or twice: inharmonic partials that ring on."""
    ratios = np.array([0.56, 0.92, 1.19, 1.71, 2.0, 2.74, 3.0, 3.76]) * rng.uniform(0.97, 1.03, 8)
    hertz = _log_uniform(rng, 400, 1300) * ratios
    weights = rng.uniform(0.2, 1, 8)

    def hit(left: int) -> np.ndarray:
        rings = [
            weight * np.sin(2 * np.pi * h * _time(left)) * _decay(left, 0.5 / (1 + ratio))
            for weight, h, ratio in zip(weights, hertz, ratios, strict=True)
        ]
        return np.asarray(np.sum(rings, axis=0))

    return _struck(samples, rng, (0.6, 1.2), hit)


def music(samples: int, rng: Rng) -> np.ndarray:
    """Play a broken triad on a plucked instrument with harmonics."""
    root = _log_uniform(rng, 130, 420)
    scale = root * 2 ** (np.array([0, 3 + rng.integers(2), 7, 12]) / 12)
    step, seconds = rng.uniform(0.12, 0.22), rng.uniform(0.15, 0.4)
    bright = rng.uniform(0.5, 1.2)

    def note(left: int) -> np.ndarray:
        hertz = rng.choice(scale)
        harmonics = [np.sin(2 * np.pi * hertz * k * _time(left)) / k**bright for k in range(1, 7)]
        return np.asarray(np.sum(harmonics, axis=0) * _decay(left, seconds))

    return _struck(samples, rng, (step, step), note)


_SYNTHESISERS = (tone, chirp, siren, beeps, noise, wind, hum, clicks, knocks, bell, music)
EVENTS = (*(synthesiser.__name__ for synthesiser in _SYNTHESISERS), "speech")


def sound(event: str, seed: int, speech: Speech) -> np.ndarray:
    """Synthesise `event`: float32 [samples], 0.8 to 1.28 s, peak 0.05 to 0.8; `speech` is a piece of `speech`."""
    rng = np.random.default_rng([seed, EVENTS.index(event)])
    samples = int(rng.uniform(*CLIP_SECONDS) * SAMPLE_RATE)
    if event == "speech":
        lasting = [clip for clip in speech.clips if clip.samples >= samples]
        clip = lasting[int(rng.integers(len(lasting)))]
        start = int(rng.integers(clip.samples - samples + 1))
        row = speech.waveform(clip)[start : start + samples].astype(np.float64)
    else:
        row = _SYNTHESISERS[EVENTS.index(event)](samples, rng)
    background = white_to(rng.uniform(0, 1), samples, rng) * 10 ** (-rng.uniform(15, 45) / 20)
    row = unit(row) + background
    return np.asarray(row / np.abs(row).max() * _log_uniform(rng, 0.05, 0.8), np.float32)


def sounds(split: str, each: int, speech: Speech) -> list[tuple[np.ndarray, str]]:
    """Draw `each` clips of every event, in turn, from the seeds of a split."""
    return [(sound(event, SEEDS[split] + number, speech), event) for number in range(each) for event in EVENTS]
