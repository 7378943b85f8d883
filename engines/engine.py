"""Open an engine's folder, choose the graph for a request, run a batch of clips."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines import generation, runtimes
from engines.batch import Clip, Row, run_batch
from engines.errors import EngineError, EngineMismatchError, OutOfMemoryError, RuntimeUnavailableError
from engines.generation import State
from engines.manifest import Generation, Graph, Manifest, Precision, Role
from engines.memory import Memory, RowMemory
from engines.runtimes import ResidentSession, RuntimeOptions, Session
from engines.verify import Check, Reference, Replay, check_file, proved, read_golden, replay

# A load that failed is not tried again for so long: a graph that is not as it must be stays so, and to find that out
# costs as much as a load. Memory may be free again soon.
RETRY_SECONDS = 60.0
RETRY_MEMORY_SECONDS = 5.0


@dataclass(frozen=True)
class Failure:
    """Why a graph cannot be loaded, and until when nobody tries, on the clock of time.monotonic.

    Not the exception itself, which would keep the frames that it went through.
    """

    kind: type[EngineError]
    message: str
    until: float

    @classmethod
    def of(cls, error: EngineError) -> Failure:
        """Remember `error`, which was raised just now."""
        seconds = RETRY_MEMORY_SECONDS if isinstance(error, OutOfMemoryError) else RETRY_SECONDS
        return cls(type(error), str(error), time.monotonic() + seconds)


class Engine:
    """An open engine; safe to share between threads. Every graph is verified when it is loaded."""

    def __init__(
        self,
        folder: Path,
        name: str | None = None,
        precision: Precision = "fp32",
        options: RuntimeOptions | None = None,
    ) -> None:
        """Read engine.json of `folder`; graphs are loaded when they are first needed. Raises EngineError."""
        self.folder = folder
        self.name = name or folder.name
        self.manifest = Manifest.read(folder)
        self.graphs = tuple(graph for graph in self.manifest.graphs if graph.precision == precision)
        self.checks: dict[str, list[Check]] = {}  # by graph, as measured on this host at load
        # What a second of a golden clip takes in the graph that every clip goes through, full or start, at best.
        self.seconds_per_second: float | None = None
        if not self.graphs:
            there = ", ".join(sorted({graph.precision for graph in self.manifest.graphs}))
            raise RuntimeUnavailableError(f"{folder} has no {precision} graph, only {there}")
        self._options = options or RuntimeOptions()
        self._memory = Memory(self._options.batch_bytes)
        self._closed = False
        self._sessions: dict[str, Session] = {}
        self._failures: dict[str, Failure] = {}
        self._golden: list[Reference] = []  # kept since the file may be gone when the graphs are checked again
        self._verified: set[str] = set()  # files with the hash that engine.json states; graphs share the large one
        self._loading = threading.RLock()

    def graph_for(self, outputs: Iterable[str]) -> Graph:
        """Return the graph that computes `outputs` with the fewest layers; KeyError names an output that none has."""
        wanted = set(outputs)
        encoding = self._of_role("encode")
        for name in sorted(wanted.difference(*(graph.outputs for graph in encoding))):
            raise KeyError(name)
        return min((graph for graph in encoding if wanted <= set(graph.outputs)), key=lambda graph: graph.layers)

    @property
    def full_graph(self) -> Graph:
        """The graph that runs every layer of the encoder and computes all of its outputs."""
        return max(self._of_role("encode"), key=lambda graph: graph.layers)

    @property
    def start_graph(self) -> Graph:
        """The graph that prepares clips for the decoder; KeyError where the engine has no decoder."""
        return self._decoding("start")

    @property
    def step_graph(self) -> Graph:
        """The graph that advances the decoder by a token; KeyError where the engine has no decoder."""
        return self._decoding("step")

    def _of_role(self, role: Role) -> list[Graph]:
        return [graph for graph in self.graphs if graph.role == role]

    def _decoding(self, role: Role) -> Graph:
        for graph in self._of_role(role):
            return graph
        raise KeyError(role)

    def tune(self, threads: int, row: RowMemory) -> None:
        """Set the threads of graphs that are loaded from now on, and what a row of a batch takes."""
        self._options = replace(self._options, threads=threads)
        self._memory.row = row

    def max_rows(self, samples: int) -> int:
        """Return how many clips of so many samples one batch may have on this host: 1 or more, by graph and memory."""
        stated = [graph.max_rows for graph in self.graphs if graph.max_rows is not None]
        return max(1, min([*stated, self._memory.rows(samples / self.manifest.sample_rate)]))

    def file_bytes(self, graphs: Iterable[Graph]) -> int:
        """Return the size of the files that `graphs` read, weights and all."""
        files = {file for graph in graphs for file in graph.sha256}
        return sum((self.folder / file).stat().st_size for file in files)

    @property
    def device(self) -> str | None:
        """Where its graphs run, "cpu" or "cuda"; None as long as none is loaded."""
        sessions = list(self._sessions.values())  # others may be loaded meanwhile
        return sessions[0].device if sessions else None

    def close(self) -> None:
        """Drop the sessions: their memory is free when the runs that hold them have ended. Nothing is loaded again."""
        with self._loading:
            self._closed = True
            self._sessions.clear()

    def needs_load(self, outputs: Iterable[str]) -> bool:
        """Whether the graph that computes `outputs` is not loaded yet. KeyError names an output that none has."""
        return self.graph_for(outputs).name not in self._sessions

    def load_for(self, outputs: Iterable[str]) -> None:
        """Load the graph that computes `outputs`, as `load` does. KeyError names an output that none has."""
        self.load(self.graph_for(outputs))

    def load(self, graph: Graph) -> Session:
        """Return the session of `graph`; the first call checks the hashes, loads it and replays the golden clips.

        Raises EngineError, for a while without trying again; EngineMismatchError where the graph does not reproduce
        the golden clips on this host.
        """
        session = self._known(graph)
        if session is not None:
            return session
        with self._loading:
            session = self._known(graph)  # it may have been loaded meanwhile, or have failed
            if session is not None:
                return session
            if self._closed:
                raise RuntimeUnavailableError(f"{self.folder} was unloaded")
            try:
                return self._load(graph)
            except EngineError as error:
                self._failures[graph.name] = Failure.of(error)
                raise

    def _known(self, graph: Graph) -> Session | None:
        """Return the session of `graph` if it is loaded; raise again what its load has failed with lately."""
        session, failure = self._sessions.get(graph.name), self._failures.get(graph.name)
        if session is None and failure is not None and time.monotonic() < failure.until:
            raise failure.kind(failure.message)
        return session

    def _load(self, graph: Graph) -> Session:
        if graph.role == "step":
            self.load(self.start_graph)  # its replay needs what that one computes
        session, checks = self.open_graph(graph)
        if not proved(checks):
            bad = [check for check in checks if not check.ok]
            detail = "; ".join(f"{c.output}: error {c.error:.1e}, bound {c.bound:.1e}" for c in bad)
            raise EngineMismatchError(
                f"{self.folder}: graph {graph.name} does not reproduce its golden clips on this host "
                f"({detail or 'no output of it is among them'}); it is not used: run `sonant verify {self.folder}`"
            )
        self.checks[graph.name] = checks
        self._sessions[graph.name] = session
        self._memory.loaded(session.device, self.file_bytes([graph]))
        return session

    def open_graph(self, graph: Graph) -> tuple[Session, list[Check]]:
        """Check the hashes of `graph`, load it and replay the golden clips, whatever comes out."""
        session = self._open(graph)
        start = self._open(self.start_graph) if graph.role == "step" else None
        self._golden = self._golden or read_golden(self.folder, self.manifest)
        replayed = self._replay(graph, session, start)
        first = self.full_graph if self.manifest.generation is None else self.start_graph
        if graph.name == first.name:
            self.seconds_per_second = replayed.seconds_per_second
        return session, replayed.checks

    def recheck(self) -> bool:
        """Whether all loaded graphs still reproduce the golden clips; those that fail, for whatever reason, do not."""
        sessions = dict(self._sessions)  # others may be loaded meanwhile
        return all(self._reproduces(graph, sessions) for graph in self.graphs if graph.name in sessions)

    def _reproduces(self, graph: Graph, sessions: Mapping[str, Session]) -> bool:
        start = sessions[self.start_graph.name] if graph.role == "step" else None
        try:
            return proved(self._replay(graph, sessions[graph.name], start).checks)
        except EngineError:
            return False

    def _replay(self, graph: Graph, session: Session, start: Session | None) -> Replay:
        return replay(session, self.folder, self.manifest, graph, self._golden, start)

    def _open(self, graph: Graph) -> Session:
        """Return the session of `graph` if it is loaded, else load it after its hashes were checked."""
        if graph.name in self._sessions:
            return self._sessions[graph.name]
        for file, sha256 in graph.sha256.items():
            if file not in self._verified:
                check_file(self.folder / file, sha256)
                self._verified.add(file)
        return runtimes.find(graph.runtime).load(self.folder, graph, self._options)

    def run(self, clips: Sequence[Clip], outputs: Sequence[str]) -> list[Row]:
        """Run `clips` as one padded batch: a row of `outputs` for each, cut to its frames.

        A clip is float32 [samples], `min_samples` to `max_samples` long, finite; the result of each is what it would
        be alone.
        """
        graph = self.graph_for(outputs)
        session = self.load(graph)
        wanted = [self.manifest.output(name) for name in outputs]
        if graph.max_rows is not None and len(clips) > graph.max_rows:
            return [row for clip in clips for row in run_batch(session, [clip], wanted)]
        return run_batch(session, clips, wanted)

    def start(self, clips: Sequence[Clip], beams: int = 1) -> State:
        """Prepare `clips` for writing about them in `beams` rows each, as one padded batch; for clips as `run` does.

        KeyError where the engine has no decoder.
        """
        return generation.start(self._resident(self.start_graph), self._generation, clips, beams)

    def step(self, state: State, tokens: NDArray[np.int64], parents: NDArray[np.int64]) -> NDArray[np.float32]:
        """Advance every row of `state` by its token: the logits of the next, [clips, beams, vocabulary].

        `tokens` and `parents` are [clips, beams]; `parents[c, b]` is the beam of clip c whose tokens row b continues, 0
        at the first step. The first tokens are the decoder's start token. Raises ValueError for other shapes, for a
        beam that there is not, and beyond the decoder's last position.
        """
        return generation.step(self._resident(self.step_graph), self._generation, state, tokens, parents)

    @property
    def _generation(self) -> Generation:
        if self.manifest.generation is None:
            raise KeyError("generation")
        return self.manifest.generation

    def _resident(self, graph: Graph) -> ResidentSession:
        return runtimes.resident(self.load(graph))
