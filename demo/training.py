"""What trainings share: batches made ahead, a schedule that follows the clock, a moving average, the best kept."""

import copy
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch.utils.data import DataLoader, IterableDataset
from transformers import PreTrainedModel

from demo.store import Model, parameters, round_to_bf16

Target = TypeVar("Target")
Rows = Iterator[tuple[np.ndarray, list[Target]]]
console = Console()


@dataclass(frozen=True)
class Options:
    """The command line of a training. `batch_seconds` is the audio in a batch, `clips` the sentences to speak."""

    minutes: float
    peak: float
    resume: bool
    batch_seconds: float
    clips: int
    seed: int
    cache: Path


@dataclass(frozen=True)
class Recipe(Generic[Model, Target]):
    """How one model learns.

    `batches` draws inputs (the first axis is the row) and their targets, `loss` turns those into a scalar, `score` is
    the error on dev that decides which weights are kept, and `keep` writes them. `extra` parameters belong to the loss
    and are not part of the model.
    """

    model: Model
    batches: Callable[[], Rows[Target]]
    loss: Callable[[torch.Tensor, list[Target], float], torch.Tensor]
    score: Callable[[Model], float]
    keep: Callable[[Model], None]
    extra: list[torch.nn.Parameter] = field(default_factory=list)


class _Ahead(IterableDataset[Any]):
    def __init__(self, rows: Callable[[], Rows[Any]]) -> None:
        self.rows = rows

    def __iter__(self) -> Rows[Any]:
        return self.rows()


def _as_it_is(batch: Any) -> Any:
    return batch


def ahead(rows: Callable[[], Rows[Target]]) -> Rows[Target]:
    """Make the batches of `rows()` in another process, a few ahead of their use."""
    return iter(DataLoader(_Ahead(rows), batch_size=None, num_workers=1, prefetch_factor=8, collate_fn=_as_it_is))


def rate(progress: float, step: int, peak: float) -> float:
    """Learning rate at `progress` (0 to 1): 200 steps of warm-up, constant until 0.4, then a cosine to a hundredth."""
    decay = 0.5 + 0.5 * math.cos(math.pi * max(0.0, progress - 0.4) / 0.6)
    return peak * min(1.0, (step + 1) / 200) * (0.01 + 0.99 * decay)


def optimizer_of(weights: list[torch.nn.Parameter], peak: float) -> torch.optim.AdamW:
    """AdamW that decays matrices and leaves biases and norms alone."""
    matrices = [weight for weight in weights if weight.ndim > 1]
    rest = [weight for weight in weights if weight.ndim <= 1]
    return torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}], lr=peak, betas=(0.9, 0.98)
    )


@torch.no_grad()
def follow(average: PreTrainedModel, model: PreTrainedModel, step: int) -> None:
    """Move the moving average of the weights: about the last 500 steps, fewer at the start."""
    momentum = min(0.998, (1 + step) / (20 + step))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - momentum)


def descend(model: PreTrainedModel, optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> float:
    """One step down the clipped gradient of `loss`, whose value is returned."""
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def fit(recipe: Recipe[Model, Target], minutes: float, peak: float, resumed: bool = False) -> None:
    """Train for `minutes`; what is kept are the averaged, rounded weights whose score, an error, is lowest.

    Where training is `resumed`, they replace only what they beat.
    """
    model, batches = recipe.model, ahead(recipe.batches)
    model.train()
    console.print(f"{parameters(model):,} parameters")
    average, optimizer = copy.deepcopy(model), optimizer_of([*model.parameters(), *recipe.extra], peak)
    rows, targets = next(batches)  # the clock starts with the first batch
    best = recipe.score(round_to_bf16(model)) if resumed else math.inf
    start, step, next_score = time.monotonic(), 0, 2.0
    recent: deque[float] = deque(maxlen=100)
    with Progress(console=console) as progress:
        bar = progress.add_task("training", total=minutes)
        while (elapsed := (time.monotonic() - start) / 60) < minutes:
            for group in optimizer.param_groups:
                group["lr"] = rate(elapsed / minutes, step, peak)
            recent.append(descend(model, optimizer, recipe.loss(torch.from_numpy(rows), targets, elapsed / minutes)))
            follow(average, model, step)
            step += 1
            progress.update(bar, completed=elapsed)
            if step % 100 == 0:
                console.print(f"{elapsed:6.1f} min  step {step}  loss {sum(recent) / len(recent):.4f}")
            if elapsed >= next_score:
                best, next_score = keep_best(recipe, average, best, elapsed), elapsed + max(2.0, minutes / 8)
            rows, targets = next(batches)
    keep_best(recipe, average, best, minutes)


def keep_best(recipe: Recipe[Model, Target], average: Model, best: float, elapsed: float) -> float:
    """Score the rounded average, keep it where it is the best so far, and return the best score."""
    rounded = round_to_bf16(average)
    error = recipe.score(rounded)
    console.print(f"{elapsed:6.1f} min  error on dev {error:.2%} (best before {best:.2%})")
    if error <= best:
        recipe.keep(rounded)
    return min(best, error)
