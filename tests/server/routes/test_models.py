from pathlib import Path

from engines.manifest import Manifest
from server.schemas.answers import ModelList
from tests.server.process import Server


def test_the_list(server: Server, models: Path) -> None:
    body = server.client.get("/v1/models").json()
    ModelList.model_validate(body)
    assert body["object"] == "list"
    by_id = {item["id"]: item for item in body["data"]}
    assert set(by_id) == {"tiny-base", "tiny-classifier", "tiny-ctc"}
    for name, item in by_id.items():
        manifest = Manifest.read(models / name)
        assert item["state"] == "ready"
        assert item["error"] is None
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
