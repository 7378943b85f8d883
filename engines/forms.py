"""The forms of an engine, its graphs by runtime and precision, and which of them this host may use."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from engines import runtimes
from engines.errors import RuntimeUnavailableError
from engines.manifest import BASE, Graph, Manifest, Precision, Role, RuntimeName
from engines.runtimes import RuntimeOptions

# Until it was measured what is fastest here: on either kind of device, fastest first.
PRECISIONS: dict[str, tuple[Precision, ...]] = {
    "cpu": ("int8", "bf16", "fp16", "fp32"),
    "cuda": ("fp16", "bf16", "int8", "fp32"),
}
RUNTIMES: tuple[RuntimeName, ...] = ("tensorrt", "onnxruntime", "openvino")


@dataclass(frozen=True, eq=False)
class Form:
    """The graphs of one runtime and precision that run on one kind of device."""

    name: str  # RUNTIME/PRECISION
    runtime: RuntimeName
    precision: Precision
    graphs: tuple[Graph, ...]

    @property
    def error(self) -> float:
        """The largest error of any output on the golden clips, as measured at export."""
        return max((error for graph in self.graphs for error in graph.errors.values()), default=math.inf)

    def of_role(self, role: Role) -> list[Graph]:
        """Return its graphs of `role`."""
        return [graph for graph in self.graphs if graph.role == role]


@dataclass(frozen=True)
class Refused:
    """A form that is not used here, and why."""

    name: str
    reason: str
    is_wanted: bool  # what the operator has set allows it: this host does not


@dataclass(frozen=True)
class Forms:
    """What of an engine may be used on this host."""

    usable: tuple[Form, ...]  # what is expected to be fastest first
    base: Form  # which has what the others lack
    refused: tuple[Refused, ...]

    def find(self, name: str) -> Form | None:
        """Return the usable form called `name`."""
        return next((form for form in self.usable if form.name == name), None)


def find(manifest: Manifest, options: RuntimeOptions) -> Forms:
    """Return the forms of an engine; RuntimeUnavailableError, with all reasons, where none is usable."""
    usable: list[Form] = []
    refused: list[Refused] = []
    for form in every(manifest):
        unwanted = _unwanted(form, options)
        reason, graphs = (unwanted, ()) if unwanted else _runnable(form, options)
        if reason is None:
            usable.append(Form(form.name, form.runtime, form.precision, graphs))
        else:
            refused.append(Refused(form.name, reason, unwanted is None))
    if not usable:
        reasons = "; ".join(f"{each.name}: {each.reason}" for each in refused)
        raise RuntimeUnavailableError(f"no form of the engine can be used here ({reasons})")
    base = next(form for form in (*usable, *every(manifest)) if form.name == BASE)
    role: Role = "encode" if manifest.generation is None else "start"
    usable.sort(key=lambda form: (not form.of_role(role), *_rank(form)))  # what most requests need comes first
    return Forms(tuple(usable), base, tuple(refused))


def every(manifest: Manifest) -> Iterator[Form]:
    """Yield every form, whatever the host."""
    names = dict.fromkeys(graph.form for graph in manifest.graphs)
    for name in names:
        graphs = tuple(graph for graph in manifest.graphs if graph.form == name)
        yield Form(name, graphs[0].runtime, graphs[0].precision, graphs)


def _unwanted(form: Form, options: RuntimeOptions) -> str | None:
    """Return why the operator does not want `form`; its error counts where the precision was left to us."""
    if options.runtime not in {"auto", form.runtime}:
        return f"the runtime is set to {options.runtime}"
    if options.precision not in {"auto", form.precision}:
        return f"the precision is set to {options.precision}"
    if options.precision == "auto" and form.error > options.max_error:
        return f"its error, {form.error:.1e}, is above {options.max_error:.1e}"
    return None


def _runnable(form: Form, options: RuntimeOptions) -> tuple[str | None, tuple[Graph, ...]]:
    """Return why nothing of `form` runs on this host, or None and the graphs of it that do."""
    runtime = runtimes.find(form.runtime)
    try:
        reasons = {graph.name: runtime.refusal(graph, options) for graph in form.graphs}
    except RuntimeUnavailableError as error:
        return str(error), ()
    graphs = tuple(graph for graph in form.graphs if reasons[graph.name] is None)
    if graphs:
        return None, graphs
    return "; ".join(dict.fromkeys(str(reason) for reason in reasons.values())), ()


def _rank(form: Form) -> tuple[int, int]:
    on_gpu = any("cuda" in graph.devices and "cpu" not in graph.devices for graph in form.graphs)
    precisions = PRECISIONS["cuda" if on_gpu else "cpu"]
    return precisions.index(form.precision), RUNTIMES.index(form.runtime)
