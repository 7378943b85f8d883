"""Error rates: always one unpadded clip at a time, which is what transformers itself would say of it."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import HubertForCTC, HubertForSequenceClassification

from demo.augment import normalise
from demo.network import greedy
from demo.sentences import INTENTS


def edits(spoken: Sequence[str], written: Sequence[str]) -> int:
    """Count the insertions, deletions and substitutions (Levenshtein) that turn `written` into `spoken`."""
    row = list(range(len(written) + 1))
    for i, left in enumerate(spoken, 1):
        previous, row[0] = row[0], i
        for j, right in enumerate(written, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (left != right))
    return row[-1]


def error_rate(pairs: list[tuple[str, str]], letters: bool = False) -> float:
    """Word (or letter) error rate of (spoken, written) pairs: edits over spoken words."""
    cut = [(list(a), list(b)) if letters else (a.split(), b.split()) for a, b in pairs]
    return sum(edits(a, b) for a, b in cut) / sum(len(a) for a, _ in cut)


@torch.inference_mode()
def transcribe(model: HubertForCTC, waveform: np.ndarray) -> str:
    """Write down what `model` hears in `waveform` float32 [samples]."""
    return greedy(model(torch.from_numpy(normalise(waveform))[None]).logits[0])


@torch.inference_mode()
def classify(model: HubertForSequenceClassification, waveform: np.ndarray) -> str:
    """Name the intent that `model` hears in `waveform` float32 [samples]."""
    best = int(model(torch.from_numpy(normalise(waveform))[None]).logits[0].argmax())
    return INTENTS[best]
