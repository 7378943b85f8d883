"""The forms of a model: what is known of each, and why those are not used that are not."""

from __future__ import annotations

import logging
from pathlib import Path

from engines.engine import Engine
from engines.forms import Form, every
from engines.runtimes import EXACT, RuntimeOptions, cuda
from server.models.model import Served
from server.models.reasons import without_folders
from server.schemas.answers import FormItem

logger = logging.getLogger(__name__)


def sizes(engine: Engine) -> dict[str, int]:
    """Return the size in bytes of the files of each form; of those that are not there, nothing."""
    return {form.name: _size(engine.folder, form) for form in every(engine.manifest)}


def tell(engine: Engine, options: RuntimeOptions) -> None:
    """Log the form that is in use; why others are not, where the operator asked for something."""
    logger.info("model %s runs in %s, error %.1e", engine.name, engine.form.name, engine.form.error)
    asked = (options.runtime, options.precision, options.max_error) != ("auto", "auto", EXACT)
    for refused in engine.forms.refused:
        level = logging.INFO if asked else logging.DEBUG
        # A plan is built on purpose, for a host like this one.
        if refused.is_wanted and refused.name.startswith("tensorrt/") and _has_gpu(options):
            level = logging.WARNING
        logger.log(level, "model %s: %s is not used: %s", engine.name, refused.name, refused.reason)


def describe(engine: Engine, served: Served | None, models: Path) -> list[FormItem]:
    """Return what a client may know of each form of `engine`; `models` is the folder that it is in."""
    reasons = {refused.name: refused.reason for refused in engine.forms.refused} | engine.given_up
    return [_describe(form, engine, served, reasons.get(form.name), models) for form in every(engine.manifest)]


def _describe(form: Form, engine: Engine, served: Served | None, reason: str | None, models: Path) -> FormItem:
    errors: dict[str, float] = {}
    for graph in form.graphs:
        for output, error in graph.errors.items():
            errors[output] = max(error, errors.get(output, 0.0))
    return FormItem(
        runtime=form.runtime,
        precision=form.precision,
        devices=sorted({device for graph in form.graphs for device in graph.devices}),
        in_use=served is not None and form.name == engine.form.name,
        reason=reason and without_folders(reason, models),
        error=max(errors.values(), default=None),
        errors=errors,
        cosine=min((cosine for graph in form.graphs for cosine in graph.cosines.values()), default=None),
        quality=[quality for graph in form.graphs for quality in graph.quality],
        verified=all(graph.verified or graph.name in engine.checks for graph in form.graphs),
        file_bytes=served.form_bytes.get(form.name) if served else None,
        plans=[graph.plan for graph in form.graphs if graph.plan],
    )


def _size(folder: Path, form: Form) -> int:
    files = {folder / file for graph in form.graphs for file in graph.sha256}
    return sum(file.stat().st_size for file in files if file.is_file())


def _has_gpu(options: RuntimeOptions) -> bool:
    return options.device != "cpu" and cuda.device(options.device_id) is not None
