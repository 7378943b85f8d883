"""Which form of an engine is the fastest on this host: a race of all, then the measurement of those in front.

Each form is loaded alone, for there may be no memory for two. One that cannot be loaded, does not reproduce its golden
clips or fails on the way is left out, with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from engines import host
from engines.engine import Engine
from engines.errors import EngineError, RuntimeUnavailableError
from engines.forms import Form
from engines.runtimes import ConvSearch, RuntimeOptions
from server.calibration import FormTime, convolutions
from server.calibration.background import is_on_gpu
from server.calibration.decide import SENTENCE, best_form
from server.calibration.measure import Measured, Measurement, Progress
from server.calibration.subject import EngineSubject, Subject
from server.calibration.timing import Timer

# Seconds of the second clip of the race: long enough that attention counts.
LONG = 10.0
# Of the time for all.
SHARE = 0.2
# On a GPU, beside that: for the search of convolutions.
SEARCH_SHARE = 0.3
# Those that take so much longer than the fastest may still be faster with threads, workers or batches of their own.
CLOSE = 0.1


def measure(
    folder: Path, options: RuntimeOptions, workers: int, seconds: float, progress: Progress = lambda step: None
) -> Measured:
    """Measure the engine in `folder`; `options.threads` and `workers` that are not 0 are given. Raises EngineError."""

    def open_form(form: str, threads: int) -> Subject:
        return EngineSubject(folder, replace(options, threads=threads), form)

    engine = Engine(folder, options=options)
    search = _conv_search(engine, options, SEARCH_SHARE * seconds, progress)
    options = replace(options, conv_search=search or options.conv_search)
    forms = engine.forms.usable
    if engine.manifest.generation is not None:  # what a form does not write, another does, and no faster
        forms = tuple(form for form in forms if form.of_role("start")) or forms
    measured = Race(forms, open_form, host.engine_threads(), seconds, progress).run(options.threads, workers)
    return replace(measured, calibration=replace(measured.calibration, conv_search=search))


def _conv_search(engine: Engine, options: RuntimeOptions, seconds: float, progress: Progress) -> ConvSearch | None:
    """Return the fastest search of the forms that have one; None without a GPU, or where one was set."""
    searching = [form.name for form in engine.forms.usable if form.runtime == "onnxruntime"]
    if options.conv_search != "auto" or not searching or not is_on_gpu("onnxruntime", options):
        return None

    def open_with(search: ConvSearch) -> Subject:
        return EngineSubject(engine.folder, replace(options, conv_search=search), searching[0])

    return convolutions.fastest(open_with, seconds, Timer(), progress)


@dataclass(frozen=True)
class Race:
    """Chooses among `forms`; `open_form` loads one, by its name, with so many threads.

    `usable` cores may be used, and about `seconds` taken.
    """

    forms: Sequence[Form]
    open_form: Callable[[str, int], Subject]
    usable: int
    seconds: float
    progress: Progress = lambda step: None
    timer: Timer = field(default_factory=Timer)

    def run(self, threads: int = 0, workers: int = 0) -> Measured:
        """Measure; `threads` and `workers` that are not 0 are given. Raises EngineError where no form works."""
        if len(self.forms) == 1:
            return self._measure(self.forms[0], self.seconds, threads, workers, self.progress)
        raced = [self._lap(form, threads or self.usable) for form in self.forms]
        found: list[tuple[Form, Measured]] = []
        while not found:
            front = in_front(raced)
            if not front:
                raise RuntimeUnavailableError("; ".join(f"{each.form}: {each.reason}" for each in raced))
            seconds = (1 - SHARE) * self.seconds / len(front)
            for index in front:
                form = self.forms[index]
                say = partial(self._say, form.name)
                try:
                    found.append((form, self._measure(form, seconds, threads, workers, say)))
                except EngineError as error:
                    raced[index] = FormTime(form.name, reason=str(error))
        best = best_form([(form.error, measured.cost) for form, measured in found])
        measured = found[best][1]
        return replace(measured, calibration=replace(measured.calibration, forms=tuple(raced)))

    def _say(self, form: str, step: str) -> None:
        self.progress(f"{form}: {step}")

    def _measure(self, form: Form, seconds: float, threads: int, workers: int, progress: Progress) -> Measured:
        measurement = Measurement(partial(self.open_form, form.name), self.usable, seconds, self.timer, progress)
        measured = measurement.run(threads, workers)
        return replace(measured, calibration=replace(measured.calibration, form=form.name))

    def _lap(self, form: Form, threads: int) -> FormTime:
        """Time a sentence and a longer clip, each alone, as often as there is time."""
        self._say(form.name, "race")
        try:
            subject = self.open_form(form.name, threads)
        except EngineError as error:
            return FormTime(form.name, reason=str(error))
        try:
            lengths = [min(max(length, subject.shortest), subject.longest) for length in (SENTENCE, LONG)]
            runs = [partial(subject.clips, length, 1, 1) for length in lengths]
            times = self.timer.interleave(runs, SHARE * self.seconds / len(self.forms), len(runs))
        except EngineError as error:
            return FormTime(form.name, reason=str(error))
        finally:
            subject.close()
        sentence, long = np.median(times, axis=0).tolist()
        return FormTime(form.name, sentence, long)


def in_front(raced: Sequence[FormTime]) -> list[int]:
    """Return the indices of the fastest, and of those that took little more; none where none has a time."""
    products = {i: each.sentence_seconds * each.long_seconds for i, each in enumerate(raced) if each.reason is None}
    least = min(products.values(), default=0.0)
    return [index for index, product in products.items() if product <= (1 + CLOSE) ** 2 * least]
