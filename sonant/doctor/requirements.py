"""What our own installation says that each extra needs, and whether a version is within its bounds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from operator import eq, ge, gt, le, lt, ne

PACKAGE = "sonant"
# As pyproject.toml has them: a name, perhaps with extras of its own, bounds, and the extra of ours that it belongs to.
REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)(?:\[.*?\])?\s*(?P<bounds>[^;]*)(?:;\s*extra == ['\"](?P<extra>.+)['\"])?"
)
BOUND = re.compile(r"(>=|<=|==|!=|<|>)\s*([0-9.]+)")
SIGNS = {">=": ge, "<=": le, "==": eq, "!=": ne, "<": lt, ">": gt}


@dataclass(frozen=True)
class Requirement:
    """A distribution, and the bounds of its version."""

    name: str
    bounds: str

    @property
    def text(self) -> str:
        """It as pip takes it."""
        return f"{self.name}{self.bounds}"

    def allows(self, found: str) -> bool:
        """Whether the version `found` is within the bounds; what stands behind its numbers is not looked at."""
        here = _numbers(found)
        return all(_holds(here, sign, _numbers(limit)) for sign, limit in BOUND.findall(self.bounds))


def of_extra(extra: str) -> list[Requirement]:
    """Return what sonant[`extra`] needs, "" for what it always needs."""
    found = (REQUIREMENT.match(text) for text in requires(PACKAGE) or ())
    return [Requirement(one["name"], one["bounds"].strip()) for one in found if one and (one["extra"] or "") == extra]


def installed(name: str) -> str | None:
    """Return the version of a distribution; None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def unmet(extra: str) -> Iterator[str]:
    """Say which distributions `extra` needs that are missing, and which are too old or too new."""
    missing = [one.name for one in of_extra(extra) if installed(one.name) is None]
    if missing:
        yield f"not installed: {', '.join(missing)}"
    for requirement in of_extra(extra):
        found = installed(requirement.name)
        if found is not None and not requirement.allows(found):
            yield f"{requirement.name} is {found}, wanted is {requirement.text}"


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"\d+", text.partition("+")[0]))


def _holds(here: tuple[int, ...], sign: str, limit: tuple[int, ...]) -> bool:
    width = max(len(here), len(limit))
    left, right = ((*numbers, *(0,) * (width - len(numbers))) for numbers in (here, limit))
    return bool(SIGNS[sign](left, right))
