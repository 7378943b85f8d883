"""Open an engine's folder, choose the graph for a request, run a batch of clips."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines import forms, generation, runtimes, tiled
from engines.batch import Clip, Row, run_batch
from engines.errors import EngineError, EngineMismatchError, OutOfMemoryError, RuntimeUnavailableError
from engines.forms import Form
from engines.generation import State
from engines.manifest import Generation, Graph, Manifest, Role
from engines.memory import Memory, RowMemory
from engines.runtimes import ConvSearch, ProfiledSession, ResidentSession, RuntimeOptions, Session
from engines.verify import Check, Reference, Replay, check_file, proved, read_golden, replay

logger = logging.getLogger(__name__)

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
    """An open engine; safe to share between threads. Every graph is verified when it is loaded.

    Of its forms that may be used here one is in use, and the others stand in for it where it lacks an output, or turns
    out not to work.
    """

    def __init__(self, folder: Path, name: str | None = None, options: RuntimeOptions | None = None) -> None:
        """Read engine.json of `folder`; graphs are loaded when they are first needed.

        Raises EngineError; RuntimeUnavailableError where none of its forms is what `options` ask for and this host has.
        """
        self.folder = folder
        self.name = name or folder.name
        self.manifest = Manifest.read(folder)
        self._options = options or RuntimeOptions()
        self.forms = forms.find(self.manifest, self._options)
        self.given_up: dict[str, str] = {}  # forms that turned out not to work here, and why
        # The form in use, then those that stand in for it: the exact one before those that are only faster.
        self._turn = self._in_turn(self.forms.usable[0])
        self.checks: dict[str, list[Check]] = {}  # by graph, as measured on this host at load
        # What a second of a golden clip takes in the graph that every clip goes through, full or start, at best.
        self.seconds_per_second: float | None = None
        self._memory = Memory(self._options)
        self._closed = False
        self._sessions: dict[str, Session] = {}
        self._failures: dict[str, Failure] = {}
        self._golden: list[Reference] = []  # kept since the file may be gone when the graphs are checked again
        self._verified: set[str] = set()  # files with the hash that engine.json states; graphs share the large one
        self._loading = threading.RLock()

    @property
    def form(self) -> Form:
        """The form in use."""
        return self._turn[0]

    def use(self, name: str) -> None:
        """Put the form called `name` in use, if it may be used here and works, for what is loaded from now on."""
        found = self.forms.find(name)
        if found is not None:
            self._turn = self._in_turn(found)

    @property
    def fallbacks(self) -> int:
        """How many forms were given up, since they did not work here."""
        return len(self.given_up)

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """The graphs that may be loaded."""
        return tuple(graph for form in self._turn for graph in form.graphs)

    def graph_for(self, outputs: Iterable[str]) -> Graph:
        """Return the graph that computes `outputs`; KeyError names an output that none has.

        It is of the form in use, or of the first that has them, and of these the one with the fewest layers.
        """
        wanted = set(outputs)
        for form in self._turn:
            fit = [graph for graph in form.of_role("encode") if wanted <= set(graph.outputs)]
            if fit:
                return min(fit, key=lambda graph: graph.layers)
        raise KeyError(min(wanted.difference(output.name for output in self.manifest.outputs)))

    @property
    def full_graph(self) -> Graph:
        """The graph, of the form in use, that runs every layer of the encoder; only fp32 always has all outputs."""
        return max(self._first_of("encode"), key=lambda graph: graph.layers)

    @property
    def first_graphs(self) -> list[Graph]:
        """What most requests need: the full graph, or where the engine has a decoder those that lead it."""
        # Each session has its own copy of the encoder's weights: where a model writes, the full graph waits until it is
        # asked for.
        return [self.full_graph] if self.manifest.generation is None else [self.start_graph, self.step_graph]

    @property
    def start_graph(self) -> Graph:
        """The graph that prepares clips for the decoder; KeyError where the engine has no decoder."""
        return self._decoding("start")

    @property
    def step_graph(self) -> Graph:
        """The graph that advances the decoder by a token; KeyError where the engine has no decoder."""
        return self._decoding("step")

    def _in_turn(self, first: Form) -> tuple[Form, ...]:
        base = self.forms.base
        works = [form for form in (first, *self.forms.usable) if form.name not in self.given_up]
        return tuple(dict.fromkeys((*works[:1], base, *works)))

    def _first_of(self, role: Role) -> list[Graph]:
        """Return the graphs of `role` of the first form that has any."""
        return next((graphs for form in self._turn if (graphs := form.of_role(role))), [])

    def _decoding(self, role: Role) -> Graph:
        for graph in self._first_of(role):
            return graph
        raise KeyError(role)

    def tune(self, threads: int, row: RowMemory, conv_search: ConvSearch | None = None) -> None:
        """Set how graphs are loaded from now on, with how many threads and which search, and what a row takes."""
        self._options = replace(self._options, threads=threads, conv_search=conv_search or self._options.conv_search)
        self._memory.row = row

    def max_rows(self, samples: int) -> int:
        """Return how many clips of so many samples one batch may have on this host: 1 or more, by graph and memory."""
        stated = [rows for graph in self.form.graphs if (rows := graph.rows(samples)) is not None]
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
        """Load the graph that computes `outputs`, as `load_first` does. KeyError names an output that none has."""
        wanted = list(outputs)
        self._load_one(lambda: self.graph_for(wanted))

    def load_first(self) -> list[Graph]:
        """Load `first_graphs` and return them; where a form does not work here, those that stand in for it.

        Raises EngineError.
        """
        for index in range(len(self.first_graphs)):
            self._load_one(lambda index=index: self.first_graphs[index])  # type: ignore[misc]
        return self.first_graphs

    def _load_one(self, choose: Callable[[], Graph]) -> tuple[Graph, Session]:
        """Load the graph that is chosen; a form that does not work is given up, and another graph chosen."""
        while True:
            graph = choose()
            try:
                return graph, self.load(graph)
            except EngineError as error:
                if isinstance(error, OutOfMemoryError) or not self._give_up(graph, error):
                    raise

    def _give_up(self, graph: Graph, error: EngineError) -> bool:
        """Give up the form of `graph`; False where nothing stands in for it, or where the engine was closed."""
        if graph.form == self.forms.base.name or self._closed:
            return False
        self.given_up[graph.form] = str(error)
        self._turn = self._in_turn(self.form)
        logger.error("%s: %s is not used any more, %s is: %s", self.name, graph.form, self.form.name, error)
        return True

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
        self._check_error(graph, checks)
        self.checks[graph.name] = checks
        self._sessions[graph.name] = session
        self._memory.loaded(session.device, self.file_bytes([graph]))
        return session

    def _check_error(self, graph: Graph, checks: Sequence[Check]) -> None:
        """Raise EngineMismatchError where the error, as found here, is above that which was to choose the form."""
        error, most = max(check.error for check in checks), self._options.max_error
        if self._options.precision == "auto" and graph.form != self.forms.base.name and error > most:
            raise EngineMismatchError(f"the error of graph {graph.name} on this host, {error:.1e}, is above {most:.1e}")

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
        """Whether all loaded graphs still reproduce the golden clips; those that fail, for whatever reason, do not.

        A form for which another stands in is given up instead.
        """
        sessions = dict(self._sessions)  # others may be loaded meanwhile
        failed = [g for g in self.graphs if g.name in sessions and not self._reproduces(g, sessions)]
        mismatch = EngineMismatchError("it does not reproduce its golden clips any more")
        lost = [graph for graph in failed if not self._give_up(graph, mismatch)]
        return not lost

    def _reproduces(self, graph: Graph, sessions: Mapping[str, Session]) -> bool:
        start = sessions.get(self.start_graph.name) if graph.role == "step" else None
        try:
            return proved(self._replay(graph, sessions[graph.name], start).checks)
        except EngineError:
            return False

    def _replay(self, graph: Graph, session: Session, start: Session | None) -> Replay:
        replayed = replay(session, self.folder, self.manifest, graph, self._golden, start)
        if not isinstance(session, ProfiledSession):
            return replayed
        return replace(replayed, checks=[*replayed.checks, *tiled.check(session, self.manifest, graph, self._golden)])

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
        graph, session = self._load_one(lambda: self.graph_for(outputs))
        wanted = [self.manifest.output(name) for name in outputs]
        if graph.max_rows is not None and len(clips) > graph.max_rows:
            return [row for clip in clips for row in run_batch(session, [clip], wanted)]
        try:
            return run_batch(session, clips, wanted)
        except RuntimeUnavailableError:  # a plan that takes no such batch
            if graph.form == self.forms.base.name:
                raise
            return run_batch(self.load(self._base_graph(outputs)), clips, wanted)
        except (
            EngineError
        ) as error:  # a plan that fails: a batch that found no memory is for the caller to make smaller
            if isinstance(error, OutOfMemoryError) or not self._give_up(graph, error):
                raise
            return self.run(clips, outputs)

    def start(self, clips: Sequence[Clip], beams: int = 1) -> State:
        """Prepare `clips` for writing about them in `beams` rows each, as one padded batch; for clips as `run` does.

        KeyError where the engine has no decoder.
        """
        return generation.start(self._resident(lambda: self.start_graph), self._generation, clips, beams)

    def step(self, state: State, tokens: NDArray[np.int64], parents: NDArray[np.int64]) -> NDArray[np.float32]:
        """Advance every row of `state` by its token: the logits of the next, [clips, beams, vocabulary].

        `tokens` and `parents` are [clips, beams]; `parents[c, b]` is the beam of clip c whose tokens row b continues, 0
        at the first step. The first tokens are the decoder's start token. Raises ValueError for other shapes, for a
        beam that there is not, and beyond the decoder's last position.
        """
        return generation.step(self._resident(lambda: self.step_graph), self._generation, state, tokens, parents)

    @property
    def _generation(self) -> Generation:
        if self.manifest.generation is None:
            raise KeyError("generation")
        return self.manifest.generation

    def _base_graph(self, outputs: Iterable[str]) -> Graph:
        wanted = set(outputs)
        fit = [graph for graph in self.forms.base.of_role("encode") if wanted <= set(graph.outputs)]
        return min(fit, key=lambda graph: graph.layers)

    def _resident(self, choose: Callable[[], Graph]) -> ResidentSession:
        return runtimes.resident(self._load_one(choose)[1])
