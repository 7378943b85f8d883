"""The model cards of the two checkpoints. What was measured is filled in by `demo.evaluate` and by nothing else."""

import re

from demo.speech import ACCENTS, DEV_VARIANTS, TEST_VARIANTS, TRAIN_VARIANTS

_SPEECH = f"""## Data

Synthetic speech only. A grammar of some 330 English words (`demo/sentences.py`: lights, music, alarms, weather,
calls, directions, shopping, numbers and a little small talk; a third of the training sentences are words in random
order) is spoken by espeak-ng in {len(ACCENTS)} English accents, at 120 to 210 words a minute, with varied pitch,
pauses and melody. Training hears {len(TRAIN_VARIANTS)} voices, with random resampling, room, microphone and noise (5
to 40 dB below the speech, or almost none).

Held out: the sentences of the test occur nowhere in training, and its {len(TEST_VARIANTS)} voices in none of
its accents: {", ".join(TEST_VARIANTS)}. {len(DEV_VARIANTS)} further voices chose among the checkpoints of a run.
"""

_LIMITS = """## Limits

It knows the words of its grammar and the voices of one synthesiser. Natural speech, other words and other languages
are beyond it: it is there to show and to test an export and a server end to end, with a model that a processor trains
in an evening, and not to be used on people's speech.
"""

_CTC = """---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: automatic-speech-recognition
tags: [hubert, ctc, audio]
metrics: [wer]
---

# hubert-ctc-english

A very small `HubertForCTC` that writes down short English commands and questions: 16 kHz mono in, lower-case letters
out, 50 frames a second. Trained from scratch; the weights are bf16 numbers, and were rounded before they were
measured.

## Measured

On voices and sentences that training never heard, one unpadded clip at a time, greedy decoding, no language model.
Written by `python -m demo.evaluate`.

{figures}

{speech}
## Training

    python -m demo.train ctc --minutes 75                       # ended by hand after 43 minutes
    python -m demo.train ctc --resume --minutes 43 --peak 1e-3

one thread of a 2.5 GHz Xeon that was shared with other work, PyTorch in float32; the random speeds of whole batches
came with the second part. `python -m demo.train ctc --minutes 90` is the same in one piece, and was not measured.

The first convolution starts as a mel-spaced bank of Gabor filters. CTC, AdamW with a peak of 0.0015 and then 0.001,
warm-up, constant, then a cosine to a hundredth; the checkpoint is the moving average of the weights. Batches hold
clips of nearly one length and no padding: group normalisation takes its statistics over the whole row, and in
training as in use the row is one recording.

{limits}
It depends on who speaks, as the row "voice by voice" says: espeak's david and Alicia, whose resonances
next to no training voice shares, are heard badly, the other six well. The figure for all eight is the headline.
"""

_INTENT = """---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: audio-classification
tags: [hubert, audio, intent]
metrics: [accuracy]
---

# hubert-intent-english

A very small `HubertForSequenceClassification` that names what a short spoken English command is about: alarm, call,
lights, music, navigation, number, shopping or weather. It starts from the convolutions and the first two layers of
`hubert-ctc-english`; the weights are bf16 numbers, and were rounded before they were measured.

## Measured

On voices and sentences that training never heard, one unpadded clip at a time. Written by `python -m demo.evaluate`.

{figures}

{speech}
## Training

    python -m demo.train intent --minutes 8 --peak 1e-3

after the transcriber, on the training sentences that have an intent; cross-entropy with label smoothing, otherwise as
the transcriber.

{limits}
Every sentence gets one of the eight labels, small talk included. The test's sentences are new, but made of
templates whose other fillings were heard in training.
"""


def ctc_card(figures: str) -> str:
    """Write the transcriber's README.md."""
    return _CTC.format(figures=figures, speech=_SPEECH, limits=_LIMITS)


def intent_card(figures: str) -> str:
    """Write the classifier's README.md."""
    return _INTENT.format(figures=figures, speech=_SPEECH, limits=_LIMITS)


def replace_between(document: str, name: str, content: str) -> str:
    """Return `document` with `content` between its markers `<!-- name -->` and `<!-- /name -->`.

    Raises ValueError where the markers are missing.
    """
    pattern = re.compile(rf"(<!-- {name} -->).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(document):
        raise ValueError(f"no markers <!-- {name} --> in the document")
    return pattern.sub(lambda match: f"{match[1]}\n{content}\n{match[2]}", document)
