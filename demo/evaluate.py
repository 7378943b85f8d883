"""Measure the checkpoints on what training never heard, and write the figures where they belong.

`python -m demo.evaluate` fills in the models' cards and the README; names of tasks (`ctc`, `events`) measure those
alone. Each clip is given to transformers alone and unpadded, with the weights as they are stored (bf16 numbers,
computed with in float32).
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from transformers.utils.logging import disable_progress_bar

from demo.measure import Row, replace_between, table
from demo.tasks import commands, events, intent, transcribe, translate, words
from demo.train import CACHE

README = Path(__file__).parent / "README.md"
FIGURES: dict[str, tuple[Path, Callable[[int, Path], list[Row]]]] = {
    "ctc": (transcribe.FOLDER, transcribe.figures),
    "intent": (intent.FOLDER, intent.figures),
    "commands": (commands.FOLDER, commands.figures),
    "events": (events.FOLDER, events.figures),
    "words": (words.FOLDER, words.figures),
    "translate": (translate.FOLDER, translate.figures),
}


def write_between(file: Path, name: str, content: str) -> None:
    """Put `content` between the markers `name` of `file`."""
    file.write_text(replace_between(file.read_text(), name, content))


def main() -> None:
    """Measure the checkpoints that are asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", help=f"some of {', '.join(FIGURES)}; all when none is named")
    parser.add_argument("--seed", type=int, default=7, help="that of the training: it draws the held-out sentences")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where what is synthesised is kept")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if unknown := set(options.what) - set(FIGURES):
        parser.error(f"no such checkpoint: {', '.join(sorted(unknown))}")
    disable_progress_bar()
    torch.set_num_threads(options.threads)
    for what in options.what or FIGURES:
        folder, figures = FIGURES[what]
        written = table(figures(options.seed, options.cache))
        write_between(folder / "README.md", "figures", written)
        write_between(README, folder.name, written)
        Console().print(f"{folder.name}\n\n{written}", markup=False)


if __name__ == "__main__":
    main()
