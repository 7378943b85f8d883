"""Single spoken words: what the command classifier names and what the embeddings tell apart.

Three splits, by voice as in `demo.voices`. The classifier's `unknown` words are other words of the grammar; a quarter
of those words are kept for the test, where half of the unknown clips say one that no training clip says.
"""

import random
from pathlib import Path

from demo.sentences import vocabulary
from demo.speech import Clip, Speech, recorded, variants_of
from demo.voices import draw_training_voice, draw_voice

_COMMANDS = "yes no left right up down stop start pause next louder quieter open close"
COMMANDS = tuple(_COMMANDS.split())
UNKNOWN = "unknown"
COMMAND_LABELS = (*COMMANDS, UNKNOWN)
_DIGITS = "zero one two three four five six seven eight nine"
_THINGS = "kitchen music weather message alarm light coffee train"
WORDS = (*COMMANDS, *_DIGITS.split(), *_THINGS.split())
_SOUND_ALIKE = {"write", "know", "lights", "messages"}  # near words that no listener could call unknown
CLIPS_A_WORD = {"train": 240, "dev": 6, "test": 24}
OTHER_CLIPS = {"train": 4500, "dev": 60, "test": 192}


def other_words(split: str) -> list[str]:
    """List the unknown words of a split: three quarters for `train`, all of them elsewhere."""
    words = [word for word in vocabulary() if word not in {*WORDS, *_SOUND_ALIKE}]
    random.Random(0).shuffle(words)
    kept = len(words) * 3 // 4
    return words[:kept] if split in ("train", "dev") else words


def label_of(clip: Clip) -> str:
    """Return the command that a clip says, or `unknown`."""
    return clip.text if clip.text in COMMANDS else UNKNOWN


def synthesise_words(split: str, seed: int, cache: Path) -> Speech:
    """Speak the words of `train`, `dev` or `test` once; a clip's `intent` is `word`, or `other` beyond `WORDS`."""
    rng = random.Random(f"words {split} {seed}")
    texts = [(word, "word") for word in WORDS for _ in range(CLIPS_A_WORD[split])]
    heard, every = other_words("train"), other_words(split)
    new = [word for word in every if word not in heard] or heard
    texts += [(rng.choice(new if index % 2 else heard), "other") for index in range(OTHER_CLIPS[split])]
    rng.shuffle(texts)
    variants = variants_of(split)
    spoken = []
    for text, _ in texts:
        voice = draw_training_voice(rng) if split == "train" else draw_voice(rng, variants, vary_speed=False)
        spoken.append((text + rng.choice((".", ".", "?", "!", "")), voice))
    return recorded(f"words-{split}-{seed}", spoken, texts, cache)
