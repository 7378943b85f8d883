"""An engine with a second form, which is a copy of its graphs under another name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

DEMO = Path(__file__).parents[3] / "demo" / "engines"
ERROR = 1e-2  # that it is said to have


def place(folder: Path, engine: str = "hubert-intent-english", **more: Any) -> Path:
    """Copy the demo's `engine` to `folder`, with the form onnxruntime/int8; `more` is said of its graphs."""
    partial = folder.with_name(f".{folder.name}")
    shutil.copytree(DEMO / engine, partial)
    manifest = partial / "engine.json"
    data = json.loads(manifest.read_text())
    data["graphs"] += [copy(partial, graph) | more for graph in data["graphs"]]
    manifest.write_text(json.dumps(data))
    return partial.rename(folder)


def copy(folder: Path, graph: dict[str, Any]) -> dict[str, Any]:
    """Return `graph` in another precision, with a file of its own."""
    name = graph["name"].replace("fp32", "int8")
    shutil.copy(folder / graph["file"], folder / f"{name}.onnx")
    hashes = {f"{name}.onnx" if file == graph["file"] else file: sha256 for file, sha256 in graph["sha256"].items()}
    other = {"name": name, "precision": "int8", "file": f"{name}.onnx", "sha256": hashes}
    return graph | other | {"errors": dict.fromkeys(graph["errors"], ERROR)}


def break_it(folder: Path) -> None:
    """Make the second form another than was exported."""
    with (folder / "int8.onnx").open("ab") as file:
        file.write(b"\0")
