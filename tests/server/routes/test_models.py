import shutil
import time
from pathlib import Path

from engines.manifest import Manifest
from server.schemas.answers import ModelItem, ModelList
from tests.server.process import Server, noise, serving, wav


def test_the_list(server: Server, models: Path) -> None:
    body = server.client.get("/v1/models").json()
    ModelList.model_validate(body)
    assert body["object"] == "list"
    by_id = {item["id"]: item for item in body["data"]}
    assert set(by_id) == {"tiny-base", "tiny-classifier", "tiny-ctc"}
    for name, item in by_id.items():
        manifest = Manifest.read(models / name)
        assert item["state"] == "ready"
        assert (item["error"], item["version"]) == (None, None)
        assert item["file_bytes"] > 0
        assert item["calibration"]["threads"] == 1
        assert item["tasks"] == list(manifest.tasks)
        assert item["sample_rate"] == manifest.sample_rate
        assert item["hidden_states"] == list(manifest.hidden_states)
        assert (item["min_seconds"], item["max_seconds"]) == manifest.seconds
        assert ("labels" in item) == (manifest.classification is not None)
        assert set(item["parity"]["fp32"]) == set(manifest.golden.outputs)
        # also those of truncated graphs, once they were asked for
        assert all(error <= 1e-4 for errors in item["parity"].values() for error in errors.values())
    assert by_id["tiny-base"]["default_for"] == ["encode"]
    assert by_id["tiny-ctc"]["default_for"] == ["transcribe"]
    assert by_id["tiny-classifier"]["default_for"] == ["classify"]


def test_one(server: Server) -> None:
    [item] = [one for one in server.client.get("/v1/models").json()["data"] if one["id"] == "tiny-ctc"]
    assert server.client.get("/v1/models/tiny-ctc").json() == item
    assert server.error(server.client.get("/v1/models/nobody")) == (404, "model_not_found", "model")


def test_to_load_and_unload(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "tiny-base", tmp_path / "first")
    with serving(tmp_path) as server:

        def change(name: str, what: str) -> ModelItem:
            response = server.client.post(f"/v1/models/{name}/{what}")
            assert response.status_code == 200, response.text
            item = ModelItem.model_validate(response.json())
            assert ModelItem.model_validate(server.client.get(f"/v1/models/{name}").json()) == item
            return item

        def encode(name: str) -> tuple[int, str | None]:
            response = server.client.post(f"/v1/encode?pooling=mean&model={name}", content=wav(noise(1)))
            return response.status_code, response.json().get("error", {}).get("code")

        assert encode("second") == (404, "model_not_found")
        assert server.error(server.client.post("/v1/models/second/load")) == (404, "model_not_found", "model")
        assert server.error(server.client.post("/v1/models/second/unload")) == (404, "model_not_found", "model")
        assert server.error(server.client.post("/v1/models/..%2Ffirst/load"))[0] == 404
        (tmp_path / "second").mkdir()
        (shutil.copytree(models / "tiny-base", tmp_path / ".2")).rename(tmp_path / "second" / "2")
        second = change("second", "load")
        assert (second.state, second.version, second.default_for) == ("ready", "2", [])
        assert encode("second") == (200, None)
        assert encode("") == (200, None)  # the one that was alone at the start is still the default

        first = change("first", "unload")
        assert (first.state, first.file_bytes, first.calibration, first.default_for) == (
            "unloaded",
            0,
            None,
            ["encode"],
        )
        assert encode("first") == encode("") == (503, "model_not_ready")
        assert change("first", "unload") == first
        assert server.client.get("/health/ready").json() == {
            "status": "ready",
            "models": {"first": "unloaded", "second": "ready"},
        }
        assert change("first", "load").state == "ready"
        assert change("first", "load").state == "ready"
        assert encode("first") == (200, None)

        (tmp_path / "second" / "2").rename(tmp_path / "second" / "1")
        (shutil.copytree(models / "tiny-base", tmp_path / ".2")).rename(tmp_path / "second" / "2")
        (tmp_path / "second" / "2" / "golden.safetensors").write_bytes(b"")
        assert server.error(server.client.post("/v1/models/second/load")) == (422, "model_load_failed", "model")
        assert encode("second") == (200, None)


def test_what_is_not_done_in_time_goes_on(models: Path, tmp_path: Path) -> None:
    with serving(tmp_path, wait=False) as server:
        shutil.copytree(models / "tiny-base", tmp_path / "new")
        late = server.client.post("/v1/models/new/load?timeout=0.0001")
        assert late.status_code == 504
        server.wait_for("/health/ready")
        assert server.error(late) == (504, "deadline_exceeded", "timeout")
        assert server.error(server.client.post("/v1/models/new/unload?timeout=601"))[1] == "option_invalid"
        late = server.client.post("/v1/models/new/unload?timeout=0.0001")
        assert server.error(late) == (504, "deadline_exceeded", "timeout")
        while server.client.get("/v1/models/new").json()["state"] != "unloaded":
            time.sleep(0.01)
