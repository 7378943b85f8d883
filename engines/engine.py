"""Open an engine's folder, choose the graph for a request, run a batch of clips."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from engines import runtimes
from engines.batch import Clip, Row, run_batch
from engines.errors import EngineMismatchError, RuntimeUnavailableError
from engines.manifest import Graph, Manifest, Precision
from engines.runtimes import RuntimeOptions, Session
from engines.verify import Check, check_file, proved, replay


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
        if not self.graphs:
            there = ", ".join(sorted({graph.precision for graph in self.manifest.graphs}))
            raise RuntimeUnavailableError(f"{folder} has no {precision} graph, only {there}")
        self._options = options or RuntimeOptions()
        self._sessions: dict[str, Session] = {}
        self._verified: set[str] = set()  # files with the hash that engine.json states; graphs share the large one
        self._loading = threading.Lock()

    def graph_for(self, outputs: Iterable[str]) -> Graph:
        """Return the graph that computes `outputs` with the fewest layers; KeyError names an output that none has."""
        wanted = set(outputs)
        for name in sorted(wanted.difference(*(graph.outputs for graph in self.graphs))):
            raise KeyError(name)
        return min((graph for graph in self.graphs if wanted <= set(graph.outputs)), key=lambda graph: graph.layers)

    @property
    def full_graph(self) -> Graph:
        """The graph that runs every layer."""
        return max(self.graphs, key=lambda graph: graph.layers)

    def load(self, graph: Graph) -> Session:
        """Return the session of `graph`; the first call checks the hashes, loads it and replays the golden clips.

        Raises EngineError; EngineMismatchError where the graph does not reproduce the golden clips on this host.
        """
        session = self._sessions.get(graph.name)
        if session is not None:
            return session
        with self._loading:
            if graph.name in self._sessions:
                return self._sessions[graph.name]
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
            return session

    def open_graph(self, graph: Graph) -> tuple[Session, list[Check]]:
        """Check the hashes of `graph`, load it and replay the golden clips, whatever comes out."""
        for file, sha256 in graph.sha256.items():
            if file not in self._verified:
                check_file(self.folder / file, sha256)
                self._verified.add(file)
        session = runtimes.find(graph.runtime).load(self.folder, graph, self._options)
        return session, replay(session, self.folder, self.manifest, graph)

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
