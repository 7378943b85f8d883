"""Every benchmark on as little as possible, to see that it works: `sonant bench quick`.

It asks whether figures are there and can be right, never how large a time is: it may run on a machine that is busy.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path

from benchmarks import commands, markdown, models, record
from benchmarks.charts.chart import Charted
from benchmarks.charts.draw import draw
from benchmarks.record import Record

TINY = "demo/engines/hubert-ctc-english"
# What each command is run with, beside --output; several times where it has several parts.
RUNS: Mapping[str, Sequence[Sequence[str]]] = {
    "latency": (("--quick",),),
    "layers": (("--quick",),),
    "change": (("--quick",),),
    "export": (("--models", "tiny", "--length", "0.5"),),
    "startup": (("--quick",),),
    "growth": tuple((axis, "--quick") for axis in ("lengths", "batches", "models", "clients")),
    "headlines": (("--quick",),),
    "peers": (("engines", "--quick"), ("servers", "--quick")),
    "load": tuple((part, "--quick") for part in ("closed", "open", "throughput", "overhead", "overload", "soak")),
    "long-audio": (("windows", TINY, "--clips", "1"), ("recording", TINY, "--minutes", "1.5")),
    "offline": ((TINY, "--files", "6", "--lengths", "0.5,1", "--seconds", "0", "--rounds", "1"),),
    "policy": (("--budgets", "10,80", "--batches", "20", "--waiting", "16"),),
}
# They take minutes, need a voice or a GPU, or measure nothing.
LEFT_OUT = {"precision", "families", "timestamps", "gpu", "report", "quick"}
CACHED = {"latency", "layers", "export", "headlines", "peers", "load", "offline", "startup", "growth", "long-audio"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 1 where a benchmark fails or its figures cannot be right."""
    parser = argparse.ArgumentParser(prog="sonant bench quick", description="Every benchmark on as little as possible.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which (default: {' '.join(RUNS)})")
    parser.add_argument("--cache", type=Path, default=models.default_cache(), help="where checkpoints and engines stay")
    arguments = parser.parse_args(argv)
    if unknown := sorted(set(arguments.names) - set(RUNS)):
        parser.error(f"{unknown[0]}: it can be of {', '.join(RUNS)}")
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.names or RUNS:
            for index, options in enumerate(RUNS[name]):
                output = Path(folder, f"{name}-{index}.json")
                cache = ["--cache", str(arguments.cache)] if name in CACHED else []
                begin = time.perf_counter()
                with redirect_stdout(io.StringIO()):
                    status = commands.run(name, [*options, *cache, "--output", str(output)])
                problems = [f"it ended with {status}"] if status else list(wrong(record.read(output)))
                bad += bool(problems)
                what = " ".join([name, *options])
                print(
                    f"{'BAD' if problems else 'ok ':<4}{time.perf_counter() - begin:6.1f} s  {what}",
                    *problems,
                    sep="\n    ",
                )
    return int(bad > 0)


def wrong(result: Record) -> Iterator[str]:
    """Say what cannot be right of a result: figures that are not there, or are no sizes of anything."""
    header, rows = result.table
    if not rows:
        yield "its table is empty"
    if {len(row) for row in rows} - {len(header)}:
        yield "its table has rows of another length than its header"
    if not (result.title and result.summary):
        yield "it says nothing"
    yield from (f"{name} is {value}" for name, value in numbers(result.model_dump()) if math.isinf(value))
    times = ("_ms", "_seconds", "_mib", "_gib", "per_second")
    yield from (
        f"{name} is {value}" for name, value in numbers(result.model_dump()) if name.endswith(times) and value < 0
    )
    if isinstance(result, Charted):
        for chart in result.charts:
            try:
                draw(chart)
            except ValueError as error:
                yield f"its chart {chart.name} cannot be drawn: {error}"
    markdown.section(result)


def numbers(value: object, name: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number in a record, with the name of its field."""
    match value:
        case Mapping():
            for key, each in value.items():
                yield from numbers(each, str(key))
        case tuple() | list():
            for each in value:
                yield from numbers(each, name)
        case float() | int():
            yield name, float(value)


if __name__ == "__main__":
    sys.exit(main())
