"""Train the demonstration's checkpoints: `python -m demo.train ctc` and then `python -m demo.train intent`.

The schedule follows the clock (`--minutes`): one thread of a laptop or a server is enough, a faster one simply sees
more speech.
"""

import argparse
import copy
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch.nn.functional import cross_entropy, ctc_loss
from transformers import HubertForCTC, HubertForSequenceClassification, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from demo.augment import batches
from demo.measure import classify, error_rate, transcribe
from demo.network import (
    Model,
    encode,
    load,
    new_ctc,
    new_intent,
    parameters,
    round_to_bf16,
    save,
    without_input_gradient,
)
from demo.sentences import INTENTS
from demo.speech import SAMPLE_RATE, Clip, synthesise

CHECKPOINTS = Path(__file__).parent / "checkpoints"
CACHE = Path(__file__).parent / ".cache"
CTC, INTENT = CHECKPOINTS / "hubert-ctc-english", CHECKPOINTS / "hubert-intent-english"
Rows = Iterator[tuple[np.ndarray, list[Clip]]]
Loss = Callable[[torch.Tensor, list[Clip]], torch.Tensor]
console = Console()


def ctc_of(model: HubertForCTC) -> Loss:
    """Return the CTC loss of a batch [rows, samples] of whole recordings, so without a mask; nats per symbol."""

    def loss(rows: torch.Tensor, clips: list[Clip]) -> torch.Tensor:
        scores = model(rows).logits.log_softmax(-1).transpose(0, 1)
        labels = [encode(clip.text) for clip in clips]
        symbols = [symbol for label in labels for symbol in label]
        frames = torch.full((len(clips),), scores.shape[0])
        lengths = torch.tensor([len(label) for label in labels])
        return ctc_loss(scores, torch.tensor(symbols), frames, lengths, zero_infinity=True)

    return loss


def intent_of(model: HubertForSequenceClassification) -> Loss:
    """Return the cross-entropy of a batch's intents, in nats."""

    def loss(rows: torch.Tensor, clips: list[Clip]) -> torch.Tensor:
        labels = torch.tensor([INTENTS.index(clip.intent) for clip in clips])
        return cross_entropy(model(rows).logits, labels, label_smoothing=0.05)

    return loss


def rate(progress: float, step: int, peak: float) -> float:
    """Learning rate at `progress` (0 to 1): 200 steps of warm-up, constant until 0.4, then a cosine to a hundredth."""
    decay = 0.5 + 0.5 * math.cos(math.pi * max(0.0, progress - 0.4) / 0.6)
    return peak * min(1.0, (step + 1) / 200) * (0.01 + 0.99 * decay)


def optimizer_of(model: PreTrainedModel, peak: float) -> torch.optim.AdamW:
    """AdamW that decays matrices and leaves biases and norms alone."""
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    rest = [weight for weight in model.parameters() if weight.ndim <= 1]
    return torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}], lr=peak, betas=(0.9, 0.98)
    )


@torch.no_grad()
def follow(average: PreTrainedModel, model: PreTrainedModel, step: int) -> None:
    """Move the moving average of the weights: about the last 500 steps, fewer at the start."""
    momentum = min(0.998, (1 + step) / (20 + step))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - momentum)


def fit(
    model: Model,
    loss_of: Loss,
    speech: Rows,
    score: Callable[[Model], float],
    folder: Path,
    minutes: float,
    peak: float,
) -> None:
    """Train `model` for `minutes`; `folder` keeps the averaged, rounded weights whose `score`, an error, is lowest."""
    average, optimizer = copy.deepcopy(model), optimizer_of(model, peak)
    start, step, heard_seconds, best, next_score = time.monotonic(), 0, 0.0, math.inf, 3.0
    recent: deque[float] = deque(maxlen=100)
    with Progress(console=console) as progress:
        bar = progress.add_task("training", total=minutes)
        while (elapsed := (time.monotonic() - start) / 60) < minutes:
            rows, clips = next(speech)
            for group in optimizer.param_groups:
                group["lr"] = rate(elapsed / minutes, step, peak)
            recent.append(descend(model, optimizer, loss_of(torch.from_numpy(rows), clips)))
            follow(average, model, step)
            heard_seconds += rows.size / SAMPLE_RATE
            step += 1
            progress.update(bar, completed=elapsed)
            if step % 100 == 0:
                loss = sum(recent) / len(recent)
                console.print(f"{elapsed:6.1f} min  step {step}  {heard_seconds / 3600:.1f} h heard  loss {loss:.4f}")
            if elapsed >= next_score:
                best, next_score = keep_best(average, score, folder, best, elapsed), elapsed + 5
    keep_best(average, score, folder, best, minutes)


def descend(model: PreTrainedModel, optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> float:
    """One step down the clipped gradient of `loss`, whose value is returned."""
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def keep_best(average: Model, score: Callable[[Model], float], folder: Path, best: float, elapsed: float) -> float:
    """Score the rounded average, save it where it is the best so far, and return the best score."""
    rounded = round_to_bf16(average)
    error = score(rounded)
    console.print(f"{elapsed:6.1f} min  error on dev {error:.2%} (best before {best:.2%})")
    if error <= best:
        save(rounded, folder)
    return min(best, error)


def train_ctc(options: argparse.Namespace) -> None:
    """Letters from speech, from scratch."""
    speech, dev = (synthesise(split, options.clips, options.seed, options.cache) for split in ("train", "dev"))
    model = load(HubertForCTC, CTC) if options.resume else new_ctc()
    without_input_gradient(model)
    model.train()
    console.print(f"{parameters(model):,} parameters, {len(speech.audio) / 16000 / 3600:.1f} h of speech")

    def score(candidate: HubertForCTC) -> float:
        return error_rate([(clip.text, transcribe(candidate, dev.waveform(clip))) for clip in dev.clips])

    rows = batches(speech, speech.clips, options.batch_seconds, options.seed + options.resume)
    fit(model, ctc_of(model), rows, score, CTC, options.minutes, peak=options.peak)


def train_intent(options: argparse.Namespace) -> None:
    """Intents from speech, from the trained letters."""
    speech, dev = (synthesise(split, options.clips, options.seed, options.cache) for split in ("train", "dev"))
    model = new_intent(load(HubertForCTC, CTC))
    without_input_gradient(model)
    model.train()
    console.print(f"{parameters(model):,} parameters")
    asked = [clip for clip in dev.clips if clip.intent in INTENTS]

    def score(candidate: HubertForSequenceClassification) -> float:
        return sum(classify(candidate, dev.waveform(clip)) != clip.intent for clip in asked) / len(asked)

    commands = [clip for clip in speech.clips if clip.intent in INTENTS]
    rows = batches(speech, commands, options.batch_seconds, options.seed)
    fit(model, intent_of(model), rows, score, INTENT, options.minutes, peak=options.peak)


def main() -> None:
    """Train one of the two checkpoints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("ctc", "intent"))
    parser.add_argument("--minutes", type=float, default=75.0, help="how long to train")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint that is there (ctc only)")
    parser.add_argument("--peak", type=float, default=1.5e-3, help="highest learning rate")
    parser.add_argument("--batch-seconds", type=float, default=24.0, help="seconds of audio in a batch")
    parser.add_argument("--clips", type=int, default=24000, help="training clips to synthesise")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the synthesised speech is kept")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    disable_progress_bar()
    torch.manual_seed(options.seed)
    {"ctc": train_ctc, "intent": train_intent}[options.what](options)


if __name__ == "__main__":
    main()
