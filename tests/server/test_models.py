import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.errors import ModelNotFoundError, ModelNotReadyError, ModelRequiredError, TaskNotSupportedError
from server.models import Models, tell_limits
from server.settings import Settings
from tests.server.process import serving
from tests.server.scheduling.fakes import plan


@pytest.fixture
def some_broken(models: Path, tmp_path: Path) -> Path:
    """One engine that is whole, one with a changed graph, one whose engine.json is cut short."""
    for name in ("whole", "tampered", "halved"):
        shutil.copytree(models / "tiny-ctc", tmp_path / name)
    for graph in (tmp_path / "tampered").glob("*.onnx*"):
        graph.write_bytes(graph.read_bytes() + b"\0")
    manifest = tmp_path / "halved" / "engine.json"
    manifest.write_bytes(manifest.read_bytes()[:200])
    return tmp_path


def loaded(settings: Settings, test: Callable[[Models], None]) -> None:
    async def run() -> None:
        models = Models(settings)
        await models.load()
        try:
            test(models)
        finally:
            await models.close()

    asyncio.run(run())


def test_the_only_model_of_a_task_is_its_default(models: Path) -> None:
    found = Models(Settings(models=models))
    assert found.default_for("transcribe") == "tiny-ctc"
    assert found.default_for("classify") == "tiny-classifier"
    assert found.default_for("encode") is None
    with pytest.raises(ModelRequiredError, match="tiny-base, tiny-classifier, tiny-ctc"):
        found.resolve(None, "encode")


def test_a_default_that_is_set(models: Path) -> None:
    found = Models(Settings(models=models, defaults={"encode": "tiny-ctc"}))
    assert found.default_for("encode") == "tiny-ctc"


@pytest.mark.parametrize("defaults", [{"encode": "nobody"}, {"transcribe": "tiny-base"}])
def test_a_default_that_cannot_be(models: Path, defaults: dict[Any, str]) -> None:
    with pytest.raises(ValueError, match="the default of"):
        Models(Settings(models=models, defaults=defaults))


def test_a_model_that_is_still_loading(models: Path) -> None:
    found = Models(Settings(models=models))
    assert not found.ready
    with pytest.raises(ModelNotReadyError, match="is loading") as caught:
        found.resolve("tiny-base", "encode")
    assert caught.value.retry_after


def test_what_is_loaded_is_served(models: Path) -> None:
    def test(found: Models) -> None:
        assert found.ready
        assert found.resolve("tiny-base", "encode").engine.name == "tiny-base"
        assert found.resolve("", "transcribe").engine.name == "tiny-ctc"
        with pytest.raises(ModelNotFoundError):
            found.resolve("nobody", "encode")
        with pytest.raises(TaskNotSupportedError):
            found.resolve("tiny-base", "classify")

    loaded(Settings(models=models), test)


def test_what_the_operator_lowers_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    tell_limits("any", plan(beams=4, max_length=101).generation, Settings(max_tokens=100, max_beams=4))
    assert not caplog.messages
    tell_limits("any", plan(beams=4, max_length=101).generation, Settings(max_tokens=50, max_beams=2))
    assert caplog.messages == [
        "model any: by default up to 50 tokens, not the checkpoint's 100",
        "model any: by default up to 2 beams, not the checkpoint's 4",
    ]


def test_an_empty_folder_is_never_ready(tmp_path: Path) -> None:
    def test(found: Models) -> None:
        assert not found.ready
        with pytest.raises(TaskNotSupportedError, match="no model here serves encode"):
            found.resolve(None, "encode")

    loaded(Settings(models=tmp_path), test)


def test_engines_that_fail_do_not_keep_others_from_being_served(some_broken: Path) -> None:
    with serving(some_broken, wait=False) as server:
        models: dict[str, Any] = {}
        while not models or "loading" in models.values():
            response = server.client.get("/health/ready")
            models = response.json()["models"]
        assert response.status_code == 503
        assert response.json() == {
            "status": "not_ready",
            "models": {"halved": "failed", "tampered": "failed", "whole": "ready"},
        }
        assert server.client.get("/health/live").status_code == 200

        listed = {item["id"]: item for item in server.client.get("/v1/models").json()["data"]}
        assert listed["whole"]["error"] is None
        assert "SHA-256" in listed["tampered"]["error"]
        assert "engine.json" in listed["halved"]["error"]

        def post(name: str) -> Any:
            return server.client.post("/v1/encode", params={"model": name}, content=b"any")

        for name in ("tampered", "halved"):
            assert post(name).status_code == 503
            assert post(name).json()["error"]["code"] == "model_not_ready"
        assert post("whole").json()["error"]["code"] == "audio_undecodable"
