"""The servers by name: what each is, where it runs, and how it is set up, which is as its own documentation says.

`transformers serve` is not among them: it transcribes audio, but has no embeddings of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.records.peer_servers import Role


@dataclass(frozen=True)
class Peer:
    """A server with a script; `environment` None is the interpreter that runs this."""

    about: str
    role: Role
    script: str
    environment: str | None
    packages: tuple[str, ...]  # whose versions a reader asks about
    computes: str = "torch/fp32"
    settings: Mapping[str, str] = field(default_factory=dict)  # environment variables


SONANT, REDUCED = "sonant", "sonant-reduced"
CLIPS, CLIPS_REDUCED = "clips", "clips-reduced"
# Ours, and the name of what is measured beside it: the same engine, in the same form, clip by clip.
OURS = {SONANT: CLIPS, REDUCED: CLIPS_REDUCED}
TRANSFORMERS = "transformers"
ONNX = "onnx"

HTTP = ("fastapi", "uvicorn")
RUNTIMES = ("onnxruntime", "openvino")
PEERS: Mapping[str, Peer] = {
    CLIPS: Peer("the exact engine behind FastAPI, clip by clip", "clips", "engine_clips", None, (*RUNTIMES, *HTTP)),
    CLIPS_REDUCED: Peer(
        "the reduced engine behind FastAPI, clip by clip", "clips", "engine_clips", None, (*RUNTIMES, *HTTP)
    ),
    ONNX: Peer(
        "the graph that optimum exports behind FastAPI, features outside of it, clip by clip",
        "peer",
        "onnx_clips",
        "onnx-fastapi",
        ("onnxruntime", "transformers", *HTTP),
        computes="onnxruntime/fp32",
    ),
    TRANSFORMERS: Peer(
        "transformers behind FastAPI, clip by clip",
        "peer",
        "transformers_clips",
        "fastapi",
        ("transformers", "torch", *HTTP),
    ),
    "litserve": Peer(
        "LitServe, batches of up to 8 clips after at most 0.1 s, as in the example of its documentation",
        "padding",
        "litserve_padded",
        "litserve",
        ("litserve", "transformers", "torch"),
    ),
    "mosec": Peer(
        "mosec, batches of up to 8 clips after at most 10 ms, which is its default",
        "padding",
        "mosec_padded",
        "mosec",
        ("mosec", "transformers", "torch"),
    ),
    "ray": Peer(
        "Ray Serve, batches of up to 10 clips after at most 10 ms, which are its defaults",
        "padding",
        "ray_padded",
        "ray",
        ("ray", "transformers", "torch"),
        # By default a process that loads torch has five seconds until it is taken to be dead.
        settings={
            "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
        },
    ),
}
NAMES = (SONANT, REDUCED, *PEERS)
