"""The outputs of an engine that the user chose, of those that its checkpoint has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from engines.generation import FRAMES
from engines.manifest import Task
from export import checkpoint as checkpoints
from export import families
from export.errors import UnsupportedError
from export.exportable import Exportable, Options

# What an engine can compute, where the checkpoint has it. Attention probabilities grow with the square of the length
# and take a slower path than the fused one, so they are there only for those who ask.
OUTPUTS = ("embeddings", "pooled", "logits", "hidden_states", "attentions")
DEFAULT_OUTPUTS = OUTPUTS[:-1]


def build(checkpoint: checkpoints.Checkpoint, options: Options, wanted: Sequence[str]) -> Exportable:
    """Make the exportable, with those of its outputs that are `wanted` and the tasks that these allow."""
    if unknown := sorted(set(wanted) - set(OUTPUTS)):
        raise UnsupportedError(f"--outputs {unknown[0]}: it can be of {', '.join(OUTPUTS)}")
    exportable = families.build(checkpoint, options)
    kept = [index for index, spec in enumerate(exportable.outputs) if spec.name.partition(".")[0] in wanted]
    tasks = tuple(task for task in exportable.tasks if _needed(task, exportable) in {None, *wanted})
    if not tasks:
        raise UnsupportedError(f"--outputs {','.join(wanted)}: none of them serves a task of this checkpoint")
    outputs = tuple(exportable.outputs[index] for index in kept)
    if all(spec.name.startswith("attentions.") for spec in outputs):  # which the golden clips do not hold
        raise UnsupportedError(
            f"--outputs {','.join(wanted)}: {checkpoint.source} has none of them by which an engine could be proved"
        )
    timed = {spec.lengths for spec in outputs} | ({FRAMES} if exportable.decoder else set())
    lengths = tuple(name for name in exportable.lengths if name in timed)
    first = len(exportable.outputs)
    kept += [first + index for index, name in enumerate(exportable.lengths) if name in timed]
    if exportable.decoder:
        first += len(exportable.lengths)
        kept += range(first, first + len(exportable.decoder.generation.cross))
    return replace(
        exportable, module=_Chosen(exportable.module, kept).eval(), outputs=outputs, lengths=lengths, tasks=tasks
    )


def _needed(task: Task, exportable: Exportable) -> str | None:
    """Return the output that `task` is computed from; None where it has graphs of its own."""
    if task == "encode":
        return "embeddings"
    return None if task == "transcribe" and exportable.decoder else "logits"


class _Chosen(nn.Module):
    """The outputs of a module at the places `kept`."""

    def __init__(self, module: nn.Module, kept: Sequence[int]) -> None:
        super().__init__()
        self.module, self.kept = module, tuple(kept)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Map waveform [batch, samples] and lengths [batch] to the chosen arrays."""
        arrays = self.module(waveform, lengths)
        return tuple(arrays[index] for index in self.kept)
