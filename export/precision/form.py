"""What a writer of graphs is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engines.batch import Clip
from engines.manifest import Graph
from export.exportable import Exportable
from export.graphs import Load, Progress
from export.graphs import load as load_to_serve


@dataclass(frozen=True)
class Source:
    """What a writer makes its graphs of."""

    folder: Path  # where the files go
    exportable: Exportable
    layers: tuple[int, ...]  # after each of which a truncated graph ends
    graphs: tuple[Graph, ...]  # those of ONNX Runtime in fp32, which are written already; their errors are not measured
    clips: tuple[Clip, ...]  # the golden clips
    audio: tuple[Clip, ...]  # what the user gave to calibrate with, at the encoder's rate; often nothing
    progress: Progress


@dataclass(frozen=True)
class Form:
    """All graphs of one runtime and precision."""

    graphs: tuple[Graph, ...]  # errors and cosines are measured afterwards, by `export.graphs.check`
    # What they are measured with. Each must stay within the bounds; errors are those of the first. As a server of this
    # host would, unless that does not show them.
    loads: tuple[Load, ...] = (load_to_serve,)


Writer = Callable[[Source], Form]
