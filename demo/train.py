"""Train one of the demonstration's checkpoints: `python -m demo.train ctc --minutes 60`.

The schedule follows the clock (`--minutes`): one thread of a laptop or a server is enough, a faster one simply sees
more. `intent`, `commands` and `translate` start from the checkpoint that `ctc` leaves.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers.utils.logging import disable_progress_bar

from demo.tasks import commands, events, intent, transcribe, translate, words
from demo.training import Options, Recipe, fit

CACHE = Path(__file__).parent / ".cache"
RECIPES: dict[str, Callable[[Options], Recipe[Any, Any]]] = {
    "ctc": transcribe.recipe,
    "intent": intent.recipe,
    "commands": commands.recipe,
    "events": events.recipe,
    "words": words.recipe,
    "translate": translate.recipe,
}


def main() -> None:
    """Read the options and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=tuple(RECIPES))
    parser.add_argument("--minutes", type=float, default=30.0, help="how long to train")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint that is there")
    parser.add_argument("--peak", type=float, default=1.5e-3, help="highest learning rate")
    parser.add_argument("--batch-seconds", type=float, default=24.0, help="seconds of audio in a batch")
    parser.add_argument("--clips", type=int, default=40000, help="training sentences to synthesise")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--cache", type=Path, default=CACHE, help="where what is synthesised is kept")
    parser.add_argument("--threads", type=int, default=1)
    given = vars(parser.parse_args())
    what, threads = given.pop("what"), given.pop("threads")
    options = Options(**given)
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    disable_progress_bar()
    torch.manual_seed(options.seed)
    fit(RECIPES[what](options), options.minutes, options.peak, options.resume)


if __name__ == "__main__":
    main()
