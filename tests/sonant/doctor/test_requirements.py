from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from sonant.doctor import requirements
from sonant.doctor.requirements import Requirement

STATED = [
    "numpy>=2.0",
    "onnxruntime>=1.23; extra == 'serve'",
    'uvicorn[standard]>=0.53; extra == "serve"',
    "tensorrt-cu13<10.17,>=10.16; extra == 'tensorrt'",
    "types-pyyaml; extra == 'dev'",
]


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What is installed, to be filled."""
    there: dict[str, str] = {}

    def version(name: str) -> str:
        if name not in there:
            raise PackageNotFoundError(name)
        return there[name]

    monkeypatch.setattr(requirements, "requires", lambda name: STATED)
    monkeypatch.setattr(requirements, "version", version)
    return there


def test_what_an_extra_needs(versions: dict[str, str]) -> None:
    texts = {extra: [one.text for one in requirements.of_extra(extra)] for extra in ("", "serve", "tensorrt", "dev")}
    assert texts == {
        "": ["numpy>=2.0"],
        "serve": ["onnxruntime>=1.23", "uvicorn>=0.53"],
        "tensorrt": ["tensorrt-cu13<10.17,>=10.16"],
        "dev": ["types-pyyaml"],
    }


def test_what_is_missing_or_of_another_version(versions: dict[str, str]) -> None:
    versions |= {"onnxruntime": "1.22.1", "tensorrt-cu13": "10.16.1.11", "numpy": "2"}
    assert list(requirements.unmet("")) == []
    assert list(requirements.unmet("tensorrt")) == []
    assert list(requirements.unmet("serve")) == [
        "not installed: uvicorn",
        "onnxruntime is 1.22.1, wanted is onnxruntime>=1.23",
    ]


@pytest.mark.parametrize(
    ("bounds", "found", "allowed"),
    [
        (">=2.11,<2.14", "2.13.0+cpu", True),
        (">=2.11,<2.14", "2.14.0", False),
        (">=2.11,<2.14", "2.9", False),
        ("<10.17,>=10.16", "11.4.0", False),
        ("==1.2", "1.2.0", True),
        ("!=1.2", "1.2.0", False),
        (">1,<=2", "2.0", True),
        ("", "0", True),
    ],
)
def test_bounds(bounds: str, found: str, allowed: bool) -> None:
    assert Requirement("x", bounds).allows(found) is allowed


def test_our_own_installation() -> None:
    assert "numpy" in {one.name for one in requirements.of_extra("")}
    assert "onnxruntime" in {one.name for one in requirements.of_extra("serve")}
    assert not list(requirements.unmet(""))
