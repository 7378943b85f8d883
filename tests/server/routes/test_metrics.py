from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from server.errors import codes
from tests.server.process import Server, serving

MODEL = "usm-spoken-words"
# What must not stand in the place of a base unit.
NOT_BASE = ("_milliseconds", "_ms", "_minutes", "_hours", "_kilobytes", "_megabytes", "_mb", "_percent", "_samples")
LABELS = {"task", "model", "status", "stage", "reason", "state", "outcome", "graph", "output"}
LABELS |= {"le", "version", "onnxruntime", "python", "runtime", "precision", "code", "kind"}
STATUSES = re.compile(r"[1-5]\d\d")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of one engine of the demo."""
    folder = tmp_path_factory.mktemp("models")
    (folder / MODEL).symlink_to(Path(__file__).parents[3] / "demo" / "engines" / MODEL)
    with serving(folder) as running:
        yield running


def families(server: Server) -> dict[str, Metric]:
    response = server.client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    found = list(text_string_to_metric_families(response.text))
    names = [family.name for family in found]
    assert len(set(names)) == len(names)
    return {family.name: family for family in found}


def value(server: Server, name: str, **labels: str) -> float:
    samples = [sample for family in families(server).values() for sample in family.samples if sample.name == name]
    return math.fsum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def test_a_request_is_counted_and_timed(server: Server, speech: bytes) -> None:
    about = {"task": "encode", "model": MODEL}

    def readings() -> list[float]:
        return [
            value(server, "sonant_requests_total", status="200", **about),
            value(server, "sonant_request_duration_seconds_count", **about),
            *(
                value(server, "sonant_stage_duration_seconds_count", stage=stage, model=MODEL)
                for stage in ("decode", "queue", "inference", "postprocess")
            ),
            value(server, "sonant_received_audio_seconds_total", model=MODEL),
            value(server, "sonant_received_bytes_total", task="encode"),
        ]

    before = readings()
    response = server.client.post("/v1/encode", content=speech)
    assert response.status_code == 200
    assert "postprocess;dur=" in response.headers["Server-Timing"]
    growth = [after - earlier for after, earlier in zip(readings(), before, strict=True)]
    assert growth == pytest.approx([1, 1, 1, 1, 1, 1, 1.5, len(speech)])


def test_a_refusal_is_counted_and_not_timed(server: Server) -> None:
    name = "sonant_request_duration_seconds_count"
    before = value(server, name, task="encode"), value(server, "sonant_requests_total", status="400", task="encode")
    assert server.client.post("/v1/encode", content=b"RIFF").status_code == 400
    assert value(server, name, task="encode") == before[0]
    assert value(server, "sonant_requests_total", status="400", task="encode") == before[1] + 1


def test_an_error_is_counted_by_its_code_from_zero(server: Server) -> None:
    assert {sample.labels["code"] for sample in families(server)["sonant_errors"].samples} >= set(codes())
    before = value(server, "sonant_errors_total", code="audio_undecodable")
    assert server.client.post("/v1/encode", content=b"RIFF").status_code == 400
    assert value(server, "sonant_errors_total", code="audio_undecodable") == before + 1


def test_what_is_ready_and_what_may_be_held(server: Server) -> None:
    assert value(server, "sonant_ready") == 1
    assert value(server, "sonant_engine_workers", model=MODEL) == 1
    assert value(server, "sonant_queue_limit_audio_seconds", model=MODEL) == 600
    found = families(server)
    limits = {one.labels["kind"]: one.value for one in found["sonant_held_limit_bytes"].samples}
    held = {one.labels["kind"]: one.value for one in found["sonant_held_bytes"].samples}
    assert limits.keys() == held.keys()
    assert limits["decoded audio"] == 2**30
    errors = found["sonant_model_verification_error"].samples
    for bound in found["sonant_model_verification_bound"].samples:
        [error] = [one.value for one in errors if one.labels == bound.labels]
        assert 0 <= error <= bound.value


def test_only_the_request_itself_is_in_progress(server: Server) -> None:
    assert value(server, "sonant_requests_in_progress") == 1


def test_what_serves_and_the_process(server: Server) -> None:
    [build] = families(server)["sonant_build_info"].samples
    assert {"version", "onnxruntime", "python"} <= build.labels.keys()
    assert build.labels["onnxruntime"] != "none"
    assert {"process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds"} <= families(server).keys()


@pytest.mark.parametrize(
    "accept", ["text/plain; version=x", "application/openmetrics-text; version=..", "image/png", ""]
)
def test_no_accept_header_breaks_it(server: Server, accept: str) -> None:
    assert server.client.get("/metrics", headers={"Accept": accept}).status_code == 200


def test_names_and_units_are_those_of_prometheus(server: Server, speech: bytes) -> None:
    assert server.client.post("/v1/encode", content=speech).status_code == 200
    ours = {name: family for name, family in families(server).items() if name.startswith("sonant_")}
    assert len(ours) >= 8
    for name, family in ours.items():
        assert re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]", name)
        assert family.documentation.endswith("."), name
        assert family.type in ("counter", "gauge", "histogram"), name
        exposed = {sample.name for sample in family.samples}
        # The parser takes `_total` from a counter's name; nothing else may have it.
        assert not name.endswith("_total"), name
        assert all(one.endswith("_total") for one in exposed) == (family.type == "counter") or not exposed
        assert not name.endswith(NOT_BASE), name
        assert not {label for sample in family.samples for label in sample.labels} - LABELS, name
        if family.type == "histogram":
            assert {f"{name}_bucket", f"{name}_sum", f"{name}_count"} >= exposed
            assert len({sample.labels["le"] for sample in family.samples if "le" in sample.labels}) <= 20


def hostile(server: Server) -> None:
    """Send what would make a series each, if a label came from a client."""
    for index in range(40):
        name = f'x{index}"\n}} 1'
        client = server.client
        answers: list[httpx.Response] = [
            client.post("/v1/encode", json={"input": "UklGRg==", "model": name}),
            client.post(f"/v1/encode/{index}", content=b"x"),
            client.get(f"/v1/models/{index}"),
            client.get(f"/v1/{index}"),
            client.request(f"X{index}", "/v1/encode"),
        ]
        assert all(400 <= answer.status_code < 500 for answer in answers)


def test_a_client_makes_no_series(server: Server) -> None:
    hostile(server)
    before = sum(len(family.samples) for family in families(server).values())
    hostile(server)
    after = families(server)
    assert sum(len(family.samples) for family in after.values()) == before
    for family in after.values():
        for sample in family.samples:
            assert sample.labels.get("model", "none") in {MODEL, "none"}
            assert sample.labels.get("task", "none") in {"encode", "transcribe", "classify", "none"}
            assert STATUSES.fullmatch(sample.labels.get("status", "200"))
