"""The voices of the demonstration: espeak-ng's own timbres, split once and for all, and timbres that we generate.

An espeak-ng voice is an accent and a *variant*, the file that describes a timbre: scales of pitch and of the formants,
roughness, breath. `dev` and `test` have variants of espeak-ng that no training clip has in any accent. Training hears
the others and, for two clips of three, variants drawn at random here: thousands of talkers in place of forty.
"""

import atexit
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-us-nyc", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029")
_TRAIN = """m1 m3 m4 m6 m7 m8 f1 f4 Alex Andy antonio benjamin boris caleb ed edward gene Henrique Hugo john Marco max
michel miguel mike pablo paul pedro quincy rob sandro shelby travis Zac anika Annie Andrea aunty steph steph2 steph3
grandma Denis"""
TRAIN_VARIANTS = tuple(_TRAIN.split())
DEV_VARIANTS = ("m5", "victor", "f5", "belinda")
TEST_MEN, TEST_WOMEN = ("m2", "Michael", "robert", "david"), ("f3", "linda", "Alicia", "f2")
TEST_VARIANTS = TEST_MEN + TEST_WOMEN
GENERATED = 3200
_BANK = 80  # variants in one data folder: espeak-ng knows at most 350 voices at a time, its own languages included
GENERATED_SHARE = 2 / 3
_PREFIX = "generated"


@dataclass(frozen=True)
class Voice:
    """How a sentence is spoken. `gap` is espeak's: 10 ms between words; `speed` resamples, and so shifts formants."""

    accent: str
    variant: str
    words_per_minute: int
    pitch: int
    gap: int
    speed: float = 1.0


def draw_voice(rng: random.Random, variants: tuple[str, ...], vary_speed: bool) -> Voice:
    """Draw a voice. Gaps are mostly none or short, as people speak, and now and then long, as people dictate."""
    gap = rng.choice((0, 0, 0, 0, 1, 1, 2, 3, 5, 8))
    speed = rng.uniform(0.9, 1.12) if vary_speed else 1.0
    return Voice(
        rng.choice(ACCENTS), rng.choice(variants), rng.randint(120, 210), rng.randint(30, 70), gap, round(speed, 3)
    )


def draw_training_voice(rng: random.Random) -> Voice:
    """Draw one of espeak-ng's own timbres or, more often, a generated one at 0.75 to 1.4 times its size."""
    if rng.random() >= GENERATED_SHARE:
        return draw_voice(rng, TRAIN_VARIANTS, vary_speed=True)
    speed = 0.75 * (1.4 / 0.75) ** rng.betavariate(2, 2)
    gap = rng.choice((0, 0, 0, 0, 1, 1, 2, 3, 5, 8))
    # The resampling changes the tempo as well; what is heard stays at 115 to 220 words a minute.
    words_per_minute = min(300, max(85, round(rng.randint(115, 220) / speed)))
    variant = f"{_PREFIX}{rng.randrange(GENERATED)}"
    return Voice(rng.choice(ACCENTS), variant, words_per_minute, rng.randint(25, 75), gap, round(speed, 3))


def espeak_arguments(voice: Voice) -> list[str]:
    """Write `voice` as arguments of espeak-ng."""
    manner = f"-v {voice.accent}+{voice.variant} -s {voice.words_per_minute} -p {voice.pitch} -g {voice.gap}"
    if not voice.variant.startswith(_PREFIX):
        return manner.split()
    number = int(voice.variant.removeprefix(_PREFIX))
    return [f"--path={generated_data(number // _BANK)}", *manner.split()]


def variant_file(number: int) -> str:
    """Describe the timbre of a generated variant, in espeak-ng's format; the same number is the same timbre.

    Sources of the keys: docs/voices.md of espeak-ng. The ranges contain what its own variants use.
    """
    rng = random.Random(f"timbre {number}")
    size = rng.uniform(0.86, 1.22)  # formants of a short vocal tract lie higher
    pitch = round(rng.uniform(60, 125) * size**3)
    lines = ["language variant", f"name {_PREFIX}{number}", f"pitch {pitch} {round(pitch * rng.uniform(1.15, 1.8))}"]
    spread = rng.choice((0.03, 0.06, 0.1))
    for formant in range(9):
        vowel = 1 <= formant <= 3
        scale = size * rng.gauss(1, spread) * 100 if vowel or rng.random() < 0.6 else rng.uniform(30, 170)
        strength = rng.uniform(60, 150) if vowel else rng.uniform(0, 180)
        shift = f" {rng.randint(-200, 150)}" if formant in (2, 3) and rng.random() < 0.15 else ""
        lines.append(f"formant {formant} {scale:.0f} {strength:.0f} {rng.uniform(60, 190):.0f}{shift}")
    numbers: dict[str, tuple[float, int, Callable[[], int]]] = {
        "flutter": (0.5, 1, lambda: rng.randint(0, 20)),
        "roughness": (0.5, 1, lambda: rng.randint(0, 7)),
        "voicing": (0.5, 1, lambda: rng.randint(25, 130)),
        "consonants": (0.6, 2, lambda: rng.randint(35, 140)),
        "breath": (0.25, 8, lambda: rng.randint(0, 40)),
        "breathw": (0.15, 8, lambda: rng.randint(100, 600)),
        "intonation": (0.4, 1, lambda: rng.randint(1, 4)),
        "stressAdd": (0.3, 8, lambda: rng.randint(-30, 100)),
        "stressAmp": (0.3, 8, lambda: rng.randint(15, 24)),
        "klatt": (0.1, 1, lambda: rng.randint(1, 6)),
    }
    for key, (share, count, draw) in numbers.items():
        if rng.random() < share:
            lines.append(" ".join([key, *(str(draw()) for _ in range(count))]))
    if rng.random() < 0.4:
        edges = sorted(rng.sample(range(100, 5000, 50), 4))
        lines.append("tone " + " ".join(f"{edge} {rng.randint(30, 255)}" for edge in edges))
    if rng.random() < 0.1:
        lines.append(f"echo {rng.randint(10, 120)} {rng.randint(5, 25)}")
    return "\n".join(lines) + "\n"


@cache
def generated_data(bank: int) -> Path:
    """Make a folder that espeak-ng takes for its data: links to the installed files, and a bank of generated variants.

    Raises FileNotFoundError where espeak-ng's own data are in none of the usual places.
    """
    roots = (os.environ.get("ESPEAK_DATA_PATH", ""), "/usr/lib/x86_64-linux-gnu", "/usr/lib", "/usr/share")
    installed = next((folder for root in roots if (folder := Path(root) / "espeak-ng-data").is_dir()), None)
    if installed is None:
        raise FileNotFoundError("espeak-ng-data is in none of the usual places: set ESPEAK_DATA_PATH to its parent")
    scratch = TemporaryDirectory(prefix="demo-voices-")
    atexit.register(scratch.cleanup)
    data = Path(scratch.name) / "espeak-ng-data"
    variants = data / "voices" / "!v"
    variants.mkdir(parents=True)
    for file in installed.iterdir():
        if file.name != "voices":
            (data / file.name).symlink_to(file)
    for number in range(bank * _BANK, (bank + 1) * _BANK):
        (variants / f"{_PREFIX}{number}").write_text(variant_file(number))
    return data.parent
