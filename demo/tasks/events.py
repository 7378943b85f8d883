"""`ast-sound-events`: a dozen synthetic sounds told apart, a small `ASTForAudioClassification` trained from scratch."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

from demo.classifier import best_class, cross_entropy_of
from demo.hubert import classes
from demo.measure import Row
from demo.sounds import EVENTS, sounds
from demo.speech import SAMPLE_RATE, synthesise
from demo.store import CHECKPOINTS, load, save, size_row
from demo.training import Options, Recipe

FOLDER = CHECKPOINTS / "ast-sound-events"
MAX_FRAMES = 128  # 10 ms each
MEL_BINS = 64
EACH = {"train": 450, "dev": 20, "test": 50}
ROWS = 32
Spectrogram = np.ndarray


def new() -> ASTForAudioClassification:
    """Build an untrained network over 12 x 5 overlapping patches."""
    config = ASTConfig(
        **classes(EVENTS),
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=288,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        patch_size=16,
        frequency_stride=10,
        time_stride=10,
        max_length=MAX_FRAMES,
        num_mel_bins=MEL_BINS,
    )
    return ASTForAudioClassification(config)


def extractor(mean: float = 0.0, std: float = 0.5) -> ASTFeatureExtractor:
    """Log-mel frames, less `mean` and over 2 `std`: those of the training set's frames, padding left out."""
    return ASTFeatureExtractor(
        sampling_rate=SAMPLE_RATE, num_mel_bins=MEL_BINS, max_length=MAX_FRAMES, mean=mean, std=std
    )


def spectrogram(waveform: np.ndarray, features: ASTFeatureExtractor) -> Spectrogram:
    """Float32 [frames, mel bins] of `waveform` float32 [samples], as the model is given it."""
    row: Spectrogram = features(waveform, sampling_rate=SAMPLE_RATE, return_tensors="np")["input_values"][0]
    return row


def statistics(clips: list[np.ndarray]) -> tuple[float, float]:
    """Mean and standard deviation of the log-mel energies of `clips`, without padding."""
    raw = extractor()
    frames = [spectrogram(clip, raw)[: 1 + (len(clip) - 400) // 160].ravel() for clip in clips]
    energies = np.concatenate(frames)
    return float(energies.mean()), float(energies.std())


def name_event(model: ASTForAudioClassification, features: ASTFeatureExtractor, waveform: np.ndarray) -> str:
    """Name what `model` hears in `waveform` float32 [samples]."""
    return best_class(model, torch.from_numpy(spectrogram(waveform, features))[None])


def batches(rows: np.ndarray, events: list[str], seed: int) -> Iterator[tuple[np.ndarray, list[str]]]:
    """Endless batches of `rows` [clips, frames, mel bins], louder or softer, with a band of frequencies missing."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(rows))
        for start in range(0, len(rows) - ROWS, ROWS):
            chosen = order[start : start + ROWS]
            batch = rows[chosen] + rng.normal(0, 0.2, (ROWS, 1, 1)).astype(np.float32)
            for row in batch:
                if rng.random() < 0.3:
                    low = int(rng.integers(MEL_BINS - 8))
                    row[:, low : low + int(rng.integers(1, 9))] = row.mean()
            yield batch, [events[index] for index in chosen]


def recipe(options: Options) -> Recipe[ASTForAudioClassification, str]:
    """Sounds from their spectrograms."""
    clips = {
        split: sounds(split, EACH[split], synthesise(split, options.clips, options.seed, options.cache))
        for split in ("train", "dev")
    }
    mean, std = statistics([waveform for waveform, _ in clips["train"][:600]])
    features = extractor(round(mean, 4), round(std, 4))
    rows = np.stack([spectrogram(waveform, features) for waveform, _ in clips["train"]])
    model = load(ASTForAudioClassification, FOLDER) if options.resume else new()

    def score(candidate: ASTForAudioClassification) -> float:
        wrong = [name_event(candidate, features, waveform) != event for waveform, event in clips["dev"]]
        return sum(wrong) / len(wrong)

    return Recipe(
        model,
        lambda: batches(rows, [event for _, event in clips["train"]], options.seed),
        cross_entropy_of(model, EVENTS, lambda event: event),
        score,
        lambda kept: save(kept, FOLDER, features),
    )


def figures(seed: int, cache: Path) -> list[Row]:
    """Measure the stored checkpoint on held-out seeds, whose speech is that of held-out voices."""
    model, features = load(ASTForAudioClassification, FOLDER), ASTFeatureExtractor.from_pretrained(FOLDER)
    clips = sounds("test", EACH["test"], synthesise("test", 0, seed, cache))
    right = Counter(event for waveform, event in clips if name_event(model, features, waveform) == event)
    each = ", ".join(f"{event} {right[event] / EACH['test']:.0%}" for event in sorted(EVENTS, key=right.__getitem__))
    return [
        (f"top-1 accuracy of {len(EVENTS)} sounds ({len(clips)} clips)", f"{right.total() / len(clips):.1%}"),
        (f"sound by sound ({EACH['test']} clips each)", each),
        size_row(model, FOLDER),
    ]
