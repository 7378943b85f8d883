"""Training batches: clips of nearly one length, changed at random each time they are heard.

No row is padded with zeros that a mask would have to hide. A clip that is shorter than its batch begins and ends in
room noise instead, as a recording does, and the row is then normalised as a whole: exactly what the model is given when
it is served one recording.
"""

from collections.abc import Iterator

import numpy as np
import soxr

from demo.speech import SAMPLE_RATE, Clip, Speech

NOISE_SECONDS = 60


def unit(noise: np.ndarray) -> np.ndarray:
    """`noise` [samples] with unit power, float32."""
    return np.asarray(noise / (noise.std() + 1e-6), np.float32)


def white_to(exponent: float, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Noise [samples] of unit power whose amplitude falls as frequency ** -exponent: 0 white, 0.5 pink, 1 brown."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    spectrum *= np.maximum(frequency, 30.0) ** -exponent
    return unit(np.fft.irfft(spectrum, samples))


def babble(speech: Speech, samples: int, rng: np.random.Generator, talkers: int = 6) -> np.ndarray:
    """Several talkers at once [samples], of unit power."""
    mix = np.zeros(samples, np.float32)
    for _ in range(talkers):
        start = int(rng.integers(0, max(1, len(speech.audio) - samples)))
        talker = speech.audio[start : start + samples].astype(np.float32)
        mix[: len(talker)] += talker / (talker.std() + 1e-3)
    return unit(mix)


def noise_bank(speech: Speech, rng: np.random.Generator) -> list[np.ndarray]:
    """Make a minute of each kind of noise; rows take random pieces of it, which costs nothing."""
    samples = NOISE_SECONDS * SAMPLE_RATE
    return [
        white_to(0, samples, rng),
        white_to(0.5, samples, rng),
        white_to(1, samples, rng),
        babble(speech, samples, rng),
    ]


def add_noise(
    waveform: np.ndarray, noise: np.ndarray, snr_db: float, power: float, rng: np.random.Generator
) -> np.ndarray:
    """`waveform` [samples] with a random piece of `noise`, `snr_db` below `power`, the speech's own mean square."""
    start = int(rng.integers(0, len(noise) - len(waveform)))
    piece = noise[start : start + len(waveform)]
    scale = np.sqrt(power / (10 ** (snr_db / 10)) / (float(np.mean(piece**2)) + 1e-9))
    return waveform + np.float32(scale) * piece


def room_and_microphone(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`waveform` [samples] through a random smooth frequency response and, half the time, a short reverberation."""
    size = 1 << (len(waveform) + SAMPLE_RATE // 4).bit_length()
    if size * 3 // 4 >= len(waveform) + SAMPLE_RATE // 4:
        size = size * 3 // 4
    frequency = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    knots = np.array([0, 150, 400, 1000, 2000, 4000, 8000.0])
    gain_db = np.interp(frequency, knots, np.cumsum(rng.normal(0, 2.0, len(knots))))
    spectrum = np.fft.rfft(waveform, size) * 10 ** (gain_db / 20)
    if rng.random() < 0.5:
        decay_seconds = rng.uniform(0.02, 0.08)
        time = np.arange(SAMPLE_RATE // 4) / SAMPLE_RATE
        tail = rng.standard_normal(len(time)) * np.exp(-time / decay_seconds)
        tail *= rng.uniform(0.1, 0.6) / np.sqrt(np.sum(tail**2))
        tail[0] = 1.0
        spectrum *= np.fft.rfft(tail, size)
    return np.fft.irfft(spectrum, size)[: len(waveform)].astype(np.float32)


def faster(waveform: np.ndarray, speed: float) -> np.ndarray:
    """`waveform` [samples] at `speed`, pitch and formants with it: a talker of another size."""
    return waveform if speed == 1.0 else np.asarray(soxr.resample(waveform, speed * SAMPLE_RATE, SAMPLE_RATE, "MQ"))


def normalise(waveform: np.ndarray) -> np.ndarray:
    """Zero mean and unit variance, as transformers' Wav2Vec2FeatureExtractor does with do_normalize."""
    return np.asarray((waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7), np.float32)


def heard(waveform: np.ndarray, samples: int, bank: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """One training row [samples]: `waveform`, which is no longer than that, at a random place in a random room."""
    power = float(np.mean(waveform**2))
    before = int(rng.integers(0, samples - len(waveform) + 1))
    row = np.zeros(samples, np.float32)
    row[before : before + len(waveform)] = waveform
    if rng.random() < 0.5:
        row = room_and_microphone(row, rng)
    # Two fifths of the rows stay almost clean: clean speech is what most people will try first.
    snr_db = rng.uniform(5, 40) if rng.random() < 0.6 else rng.uniform(45, 80)
    return normalise(add_noise(row, bank[int(rng.integers(len(bank)))], snr_db, power, rng))


def batches(
    speech: Speech, clips: list[Clip], seconds: float, seed: int, margin_seconds: float = 0.25
) -> Iterator[tuple[np.ndarray, list[Clip]]]:
    """Endless batches of about `seconds` of audio: normalised float32 [rows, samples], and the clip of each row.

    Up to `margin_seconds` of room noise surround the longest clip of a batch, more the others.

    Clips are sorted by length with some jitter, so that a batch holds nearly one length and an epoch never the same
    batches.
    """
    rng = np.random.default_rng(seed)
    bank = noise_bank(speech, rng)
    while True:
        order = sorted(clips, key=lambda clip: clip.samples * rng.uniform(0.95, 1.05))
        groups: list[list[Clip]] = [[]]
        for clip in order:
            if (len(groups[-1]) + 1) * clip.samples > seconds * SAMPLE_RATE:
                groups.append([])
            groups[-1].append(clip)
        for index in rng.permutation(len(groups)):
            group = groups[index]
            speed = rng.uniform(0.87, 1.17) if rng.random() < 0.5 else 1.0
            waveforms = [faster(speech.waveform(clip), speed) for clip in group]
            samples = max(map(len, waveforms)) + int(rng.uniform(0.02, margin_seconds) * SAMPLE_RATE)
            yield np.stack([heard(waveform, samples, bank, rng) for waveform in waveforms]), group
