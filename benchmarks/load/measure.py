"""One server at one load: windows of a closed or an open loop until they agree, and the figures of the last.

measured = measure.closed(Target(Raw(), port), asked, clients=8)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.load import counters, drive
from benchmarks.load.adapters.base import Adapter, Result
from benchmarks.load.client import HOST, Client, Request
from benchmarks.load.meter import Spent
from benchmarks.load.session import Look, Measured, Session, Tick
from benchmarks.load.stability import Rule

RULE = Rule()
OBJECTIVE_SECONDS = 10.0


@dataclass(frozen=True)
class Target:
    """A server, how it is asked, and the processes on this machine, if any, whose processor time is its own."""

    adapter: Adapter
    port: int
    host: str = HOST
    pids: tuple[int, ...] = ()


def closed(
    target: Target,
    asked: Sequence[Request],
    clients: int,
    rule: Rule = RULE,
    objective: float = OBJECTIVE_SECONDS,
    alone: Mapping[int, Result] | None = None,
    tick: Tick = lambda windows, share: None,
) -> Measured:
    """Let `clients` ask one request after the other, again and again.

    `alone` has the results that an earlier measurement has found for single requests, of the same `asked`. ValueError
    where a single request has none.
    """
    return _measure(target, asked, rule, objective, alone, tick, lambda session: session.closed(clients))


def open_(
    target: Target,
    asked: Sequence[Request],
    rate: float,
    rule: Rule = RULE,
    objective: float = OBJECTIVE_SECONDS,
    seed: int = 0,
    alone: Mapping[int, Result] | None = None,
    tick: Tick = lambda windows, share: None,
) -> Measured:
    """Ask `rate` times a second at random times, whatever becomes of the others; all else as `closed`."""
    return _measure(target, asked, rule, objective, alone, tick, lambda session: session.open_(rate, seed))


def _measure(
    target: Target,
    asked: Sequence[Request],
    rule: Rule,
    objective: float,
    alone: Mapping[int, Result] | None,
    tick: Tick,
    loop: Callable[[Session], Awaitable[Measured]],
) -> Measured:
    async def connected() -> Measured:
        client = Client(target.port, target.host, rule.timeout)
        addressed = [request.to(f"{target.host}:{target.port}") for request in asked]
        look = partial(_look, target)
        session = Session(target.adapter, addressed, client.ask, look, rule, objective, tick=tick)
        try:
            await session.begin(alone)
            return await loop(session)
        finally:
            client.close()

    return drive.run(connected)


async def _look(target: Target) -> Look:
    return Look(Spent.by(target.pids), await counters.read(target.port, target.host))
