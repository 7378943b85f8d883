"""`usm-spoken-words`: embeddings that tell spoken words apart, a tiny `Gemma3nAudioEncoder`, and a linear probe."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy, normalize
from transformers import Gemma3nAudioConfig, Gemma3nAudioEncoder, Gemma3nAudioFeatureExtractor

from demo.augment import batches
from demo.measure import Row
from demo.speech import Clip, Speech
from demo.store import CHECKPOINTS, load, save, size_row
from demo.training import Options, Recipe
from demo.words import WORDS, synthesise_words

FOLDER = CHECKPOINTS / "usm-spoken-words"
PROBE = FOLDER / "probe.safetensors"
MARGIN_SECONDS = 0.5
TEMPERATURE = 0.1


def new() -> Gemma3nAudioEncoder:
    """Build an untrained encoder: three conformer layers, one frame every 80 ms."""
    config = Gemma3nAudioConfig(
        hidden_size=96,
        conf_num_attention_heads=4,
        conf_num_hidden_layers=3,
        conf_reduction_factor=2,
        sscp_conv_channel_size=(32, 16),
    )
    return Gemma3nAudioEncoder(config)


def features_of(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-mel frames float32 [rows, frames, 128] of waveforms [rows, samples], and which are valid [rows, frames]."""
    extracted = Gemma3nAudioFeatureExtractor()(list(rows), return_tensors="np")
    return extracted["input_features"].astype(np.float32), extracted["input_features_mask"].astype(bool)


def pooled(model: Gemma3nAudioEncoder, features: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Mean [rows, hidden] over the valid frames of `features` [rows, frames, 128].

    The encoder's own masks are true on padding, the one it takes as well as the one it returns.
    """
    output = model(features, ~valid)
    weight = (~output.audio_mel_mask).unsqueeze(-1).to(features.dtype)
    mean: torch.Tensor = (output.last_hidden_state * weight).sum(1) / weight.sum(1)
    return mean


@torch.inference_mode()
def embed(model: Gemma3nAudioEncoder, waveform: np.ndarray) -> torch.Tensor:
    """Pooled embedding [hidden] of `waveform` float32 [samples]."""
    features, valid = features_of(waveform[None])
    return pooled(model, torch.from_numpy(features), torch.from_numpy(valid))[0]


def spoken(speech: Speech) -> list[Clip]:
    """List the clips that say one of `WORDS`."""
    return [clip for clip in speech.clips if clip.text in WORDS]


def embeddings(model: Gemma3nAudioEncoder, speech: Speech, clips: list[Clip]) -> torch.Tensor:
    """Pooled embeddings [clips, hidden], each clip alone."""
    return torch.stack([embed(model, speech.waveform(clip)) for clip in clips])


def retrieval(vectors: torch.Tensor, clips: list[Clip]) -> float:
    """Precision at 1: how often the nearest clip (cosine) of any other voice says the same word."""
    unit = normalize(vectors, dim=-1)
    likeness = unit @ unit.T
    voices = [clip.voice.variant for clip in clips]
    same = torch.tensor([[a == b for a in voices] for b in voices])
    nearest = likeness.masked_fill(same, -2.0).argmax(1).tolist()
    found: list[bool] = [clips[i].text == clip.text for clip, i in zip(clips, nearest, strict=True)]
    return sum(found) / len(found)


def rows_of(speech: Speech, options: Options) -> Iterator[tuple[np.ndarray, list[Clip]]]:
    """Endless batches of features [rows, frames, 128] of clips at random levels; every frame of theirs is valid."""
    rng = np.random.default_rng(options.seed)
    for waveforms, clips in batches(speech, spoken(speech), options.batch_seconds, options.seed, MARGIN_SECONDS):
        level = np.exp(rng.uniform(np.log(0.05), np.log(0.9), (len(waveforms), 1)))
        peaks = np.abs(waveforms).max(axis=1, keepdims=True)
        yield features_of((waveforms / peaks * level).astype(np.float32))[0], clips


def likeness_loss(unit: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Supervised contrastive loss in nats of normalised embeddings [rows, hidden]: alike where `labels` agree."""
    alone = torch.eye(len(unit), dtype=torch.bool)
    scores = (unit @ unit.T / TEMPERATURE).masked_fill(alone, -1e9)
    alike = (labels[:, None] == labels[None]) & ~alone
    pairs = alike.sum(1)
    chances = torch.where(alike, scores.log_softmax(1), 0.0).sum(1)
    return -(chances[pairs > 0] / pairs[pairs > 0]).sum() / len(unit)


def fit_probe(vectors: torch.Tensor, labels: torch.Tensor) -> torch.nn.Linear:
    """Fit a linear classifier of pooled embeddings [clips, hidden], on their own scale, by 300 full steps."""
    probe = torch.nn.Linear(vectors.shape[1], len(WORDS))
    optimizer = torch.optim.AdamW(probe.parameters(), lr=0.05, weight_decay=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        cross_entropy(probe(vectors), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return probe


def named(vector: torch.Tensor, probe: dict[str, torch.Tensor]) -> str:
    """Name the word that `probe` finds in a pooled embedding [hidden]."""
    return WORDS[int((probe["weight"] @ vector + probe["bias"]).argmax())]


def keep(model: Gemma3nAudioEncoder, speech: Speech) -> None:
    """Write the encoder, and the probe that names words: `weight` [classes, hidden], `bias` [classes], `labels`."""
    clips = spoken(speech)[:1000]
    vectors = embeddings(model, speech, clips).clone()
    probe = fit_probe(vectors, torch.tensor([WORDS.index(clip.text) for clip in clips]))
    save(model, FOLDER, Gemma3nAudioFeatureExtractor())
    tensors = {"weight": probe.weight.detach().contiguous(), "bias": probe.bias.detach().contiguous()}
    save_file(tensors, PROBE, metadata={"labels": json.dumps(WORDS)})
    PROBE.chmod(0o644)  # safetensors writes for its owner alone


def recipe(options: Options) -> Recipe[Gemma3nAudioEncoder, Clip]:
    """Words from speech: cross-entropy over a table of word directions, and pulling equal words together."""
    speech, dev = (synthesise_words(split, options.seed, options.cache) for split in ("train", "dev"))
    model = load(Gemma3nAudioEncoder, FOLDER) if options.resume else new()
    directions = torch.nn.Parameter(torch.randn(len(WORDS), model.config.hidden_size))

    def loss(features: torch.Tensor, clips: list[Clip], _progress: float) -> torch.Tensor:
        labels = torch.tensor([WORDS.index(clip.text) for clip in clips])
        unit = normalize(pooled(model, features, torch.ones(features.shape[:2], dtype=torch.bool)), dim=-1)
        return cross_entropy(unit @ directions.T, labels) + 0.5 * likeness_loss(unit, labels)

    def score(candidate: Gemma3nAudioEncoder) -> float:
        clips = spoken(dev)
        return 1 - retrieval(embeddings(candidate, dev, clips), clips)

    return Recipe(model, lambda: rows_of(speech, options), loss, score, lambda kept: keep(kept, speech), [directions])


def figures(seed: int, cache: Path) -> list[Row]:
    """Measure the stored checkpoint and its probe on held-out voices."""
    speech, model = synthesise_words("test", seed, cache), load(Gemma3nAudioEncoder, FOLDER)
    clips = spoken(speech)
    vectors = embeddings(model, speech, clips)
    probe = load_file(PROBE)
    right = sum(named(vector, probe) == clip.text for vector, clip in zip(vectors, clips, strict=True)) / len(clips)
    return [
        (
            f"precision at 1 of {len(WORDS)} words, nearest clip of any other voice ({len(clips)} clips)",
            f"{retrieval(vectors, clips):.1%}",
        ),
        (f"accuracy of the linear probe ({len(clips)} clips)", f"{right:.1%}"),
        size_row(model, FOLDER),
    ]
