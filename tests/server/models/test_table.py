import asyncio
import hashlib
import json
import shutil
import threading
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from engines.engine import Engine
from engines.manifest import Task
from server.errors import (
    ModelLoadError,
    ModelNotFoundError,
    ModelNotReadyError,
    ModelRequiredError,
    TaskNotSupportedError,
)
from server.models.table import Models
from server.scheduling.jobs import Result
from server.settings import Settings
from tests.server.process import noise, serving, wav

DEMO = Path(__file__).parents[3] / "demo" / "engines"
NAME, CTC = "hubert-intent-english", "hubert-ctc-english"


def place(models: Path, *parts: str, engine: str = NAME) -> Path:
    """Copy an engine as one does: it appears when all of it is there."""
    partial = models / ".partial"
    shutil.copytree(DEMO / engine, partial)
    folder = models.joinpath(*parts)
    folder.parent.mkdir(exist_ok=True)
    return partial.rename(folder)


def tampered(folder: Path) -> str:
    weights = folder / "fp32.weights"
    weights.write_bytes(weights.read_bytes() + b"\0")
    return "SHA-256"


def halved(folder: Path) -> str:
    manifest = folder / "engine.json"
    manifest.write_bytes(manifest.read_bytes()[:200])
    return "engine.json"


def incomplete(folder: Path) -> str:
    (folder / "fp32.weights").unlink()
    return "fp32.weights is missing"


def wrong(folder: Path) -> str:
    """Weights that are not those that the golden clips were computed with, though their hash is right."""
    weights, manifest = folder / "fp32.weights", folder / "engine.json"
    before = weights.read_bytes()
    after = before[:-40_000] + bytes(20_000) + before[-20_000:]
    weights.write_bytes(after)
    old, new = (hashlib.sha256(data).hexdigest() for data in (before, after))
    manifest.write_text(manifest.read_text().replace(old, new))
    return "does not reproduce its golden clips"


def unreadable(folder: Path) -> str:
    (folder / "golden.safetensors").unlink()
    (folder / "golden.safetensors").mkdir()
    return "cannot be read"


def useless(folder: Path) -> str:
    manifest = json.loads((folder / "engine.json").read_text())
    manifest["tasks"].remove("classify")
    (folder / "engine.json").write_text(json.dumps(manifest))
    return "does not serve classify"


BREAK = [tampered, halved, incomplete, wrong, unreadable, useless]


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


def loaded(settings: Settings, test: Callable[[Models], Awaitable[None]]) -> None:
    async def run() -> None:
        models = Models(settings)
        await models.load_all()
        try:
            await test(models)
        finally:
            await models.close()

    asyncio.run(run())


async def leased(models: Models, name: str | None, task: Task) -> Engine:
    async with models.lease(name, task) as served:
        assert not models.idle
        return served.engine


def test_the_only_model_of_a_task_is_its_default(models: Path) -> None:
    found = Models(Settings(models=models))
    assert found.default_for("transcribe") == "tiny-ctc"
    assert found.default_for("classify") == "tiny-classifier"
    assert found.default_for("encode") is None
    with pytest.raises(ModelRequiredError, match="tiny-base, tiny-classifier, tiny-ctc"):
        asyncio.run(leased(found, None, "encode"))


def test_a_default_that_is_set(models: Path) -> None:
    found = Models(Settings(models=models, defaults={"encode": "tiny-ctc"}))
    assert found.default_for("encode") == "tiny-ctc"


def test_a_model_that_is_still_loading(models: Path) -> None:
    found = Models(Settings(models=models))
    assert not found.ready
    with pytest.raises(ModelNotReadyError, match="is loading") as caught:
        asyncio.run(leased(found, "tiny-base", "encode"))
    assert caught.value.retry_after


def test_what_is_loaded_is_served(models: Path) -> None:
    async def test(found: Models) -> None:
        assert found.ready
        assert (await leased(found, "tiny-base", "encode")).name == "tiny-base"
        assert (await leased(found, "", "transcribe")).name == "tiny-ctc"
        assert found.idle
        with pytest.raises(ModelNotFoundError):
            await leased(found, "nobody", "encode")
        with pytest.raises(TaskNotSupportedError):
            await leased(found, "tiny-base", "classify")

    loaded(Settings(models=models), test)


def test_an_empty_folder_is_not_ready_until_something_is_loaded(tmp_path: Path) -> None:
    async def test(found: Models) -> None:
        assert not found.ready
        with pytest.raises(TaskNotSupportedError, match="no model here serves encode"):
            await leased(found, None, "encode")
        place(tmp_path, NAME)
        await found.load(NAME)
        assert found.ready
        assert (await leased(found, None, "encode")).name == NAME

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

        # Clients learn why, and nothing of where: that is in the log.
        answers = [server.client.get("/v1/models").text]
        for name in ("tampered", "halved"):
            answer = server.client.post(f"/v1/models/{name}/load")
            assert answer.status_code == 422
            assert f"{name}/" in answer.json()["error"]["message"]
            answers.append(answer.text)
        assert all(str(some_broken) not in answer for answer in answers)
        assert str(some_broken / "tampered") in server.log

        for name in ("tampered", "halved"):
            assert post(name).status_code == 503
            assert post(name).json()["error"]["code"] == "model_not_ready"
        assert post("whole").json()["error"]["code"] == "audio_undecodable"


def test_the_newest_version_takes_over_and_who_holds_the_old_one_keeps_it(tmp_path: Path) -> None:
    place(tmp_path, NAME, "1")

    async def test(found: Models) -> None:
        model = found.find(NAME)
        async with found.lease(NAME, "encode") as old:
            assert await found.load(NAME) is model
            assert model.served is old  # nothing newer is there
            place(tmp_path, NAME, "2")
            await found.load(NAME)
            assert (model.version, model.state) == ("2", "ready")
            async with found.lease(NAME, "encode") as new:
                assert new is not old
                assert new.engine.folder.name == "2"
            job = old.scheduler.submit([noise(1)], ["pooled"])[0]
            assert isinstance(await job.future, Result)
            assert old.engine._sessions
            engine = weakref.ref(old.engine)
        while engine() is not None and engine()._sessions:  # type: ignore[union-attr]  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        shutil.rmtree(tmp_path / NAME / "2")
        await found.load(NAME)
        assert model.version == "1"  # an older one, if that is what is there now

    loaded(Settings(models=tmp_path), test)


@pytest.mark.parametrize("damage", BREAK)
def test_what_must_not_be_served_does_not_take_over(tmp_path: Path, damage: Callable[[Path], str]) -> None:
    place(tmp_path, NAME, "1")

    async def test(found: Models) -> None:
        model = found.find(NAME)
        served = model.served
        why = damage(place(tmp_path, NAME, "2"))
        with pytest.raises(ModelLoadError, match=why):
            await found.load(NAME)
        assert (model.served, model.version, model.state) == (served, "1", "ready")
        assert why in str(model.error)
        assert found.ready
        shutil.rmtree(tmp_path / NAME / "2")
        await found.load(NAME)
        assert (model.served, model.error) == (served, None)

    loaded(Settings(models=tmp_path), test)


def test_no_memory_or_no_file_handles_while_it_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place(tmp_path, NAME, "1")

    def fail(engine: Engine) -> int:
        raise OSError(24, "Too many open files")

    async def test(found: Models) -> None:
        place(tmp_path, NAME, "2")
        with monkeypatch.context() as patch:
            patch.setattr("engines.repository.load", fail)
            with pytest.raises(ModelLoadError, match="unexpected error; the server's log has it; what was served"):
                await found.load(NAME)
        assert "Too many open files" in caplog.text
        assert found.find(NAME).version == "1"
        await found.load(NAME)
        assert found.find(NAME).version == "2"

    loaded(Settings(models=tmp_path), test)


def test_what_failed_or_was_unloaded_is_loaded_again(tmp_path: Path) -> None:
    tampered(place(tmp_path, NAME))
    place(tmp_path, CTC, engine=CTC)

    async def test(found: Models) -> None:
        model = found.find(NAME)
        assert (model.state, found.ready) == ("failed", False)
        await found.unload(NAME)
        assert (model.state, found.ready) == ("unloaded", True)  # on purpose
        with pytest.raises(ModelNotReadyError, match="is unloaded") as caught:
            await leased(found, NAME, "encode")
        assert caught.value.retry_after is None
        shutil.rmtree(tmp_path / NAME)
        with pytest.raises(ModelNotFoundError):
            await found.load(NAME)
        place(tmp_path, NAME)
        await found.load(NAME)
        assert (model.state, model.version, found.ready) == ("ready", None, True)
        assert (await leased(found, NAME, "encode")).name == NAME

    loaded(Settings(models=tmp_path), test)


def test_unloading_waits_for_who_holds_it_and_a_default_stays(tmp_path: Path) -> None:
    place(tmp_path, NAME)

    async def test(found: Models) -> None:
        async with found.lease(None, "classify") as served:
            unloading = asyncio.create_task(found.unload(NAME))
            while found.find(NAME).state == "ready":  # noqa: ASYNC110
                await asyncio.sleep(0)
            assert found.find(NAME).state == "unloading"
            with pytest.raises(ModelNotReadyError):
                await leased(found, None, "classify")
            loading = asyncio.create_task(found.load(NAME))  # it waits its turn
            job = served.scheduler.submit([noise(1)], ["pooled"])[0]
            assert isinstance(await job.future, Result)
            assert not unloading.done()
        await unloading
        assert not served.engine._sessions
        place(tmp_path, CTC, engine=CTC)
        await loading
        await found.load(CTC)
        assert found.find(NAME).state == "ready"
        assert found.default_for("encode") == NAME  # also when there is another

    loaded(Settings(models=tmp_path), test)


def test_a_load_goes_on_when_nobody_waits_for_it_any_more(tmp_path: Path) -> None:
    place(tmp_path, NAME, "1")

    async def test(found: Models) -> None:
        place(tmp_path, NAME, "2")
        asked = asyncio.create_task(found.load(NAME))
        await asyncio.sleep(0)
        asked.cancel()
        await asyncio.wait([asked])
        assert asked.cancelled()
        await asyncio.gather(*(found.load(NAME) for _ in range(3)))
        assert found.find(NAME).version == "2"

    loaded(Settings(models=tmp_path), test)


@pytest.mark.parametrize("name", ["..", ".", "", ".partial", "../models", "/etc", NAME + "/1", "1", "a\0b"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    place(tmp_path, "models", NAME)

    async def test(found: Models) -> None:
        with pytest.raises(ModelNotFoundError):
            await found.load(name)
        with pytest.raises(ModelNotFoundError):
            await found.unload(name)
        assert [model.name for model in found] == [NAME]

    loaded(Settings(models=tmp_path / "models"), test)


def test_no_request_fails_while_models_are_replaced_and_unloaded(tmp_path: Path) -> None:
    clients, done = 4, threading.Event()
    place(tmp_path, NAME, "1")
    place(tmp_path, "other")
    data = wav(noise(1))

    with serving(tmp_path) as server:
        [expected] = server.client.post(f"/v1/encode?model={NAME}&pooling=mean", content=data).json()["data"]
        # In a batch with others: the error that is promised.
        close = pytest.approx(expected["embedding"], rel=0, abs=1e-5 * max(map(abs, expected["embedding"])))

        def ask(model: str) -> list[tuple[int, str | None]]:
            """Return the answers that are not the expected ones, and how many there were."""
            answers, strange = 0, []
            while not done.is_set():
                response = server.client.post(f"/v1/encode?model={model}&pooling=mean", content=data)
                answers += 1
                if response.status_code != 200:
                    strange.append((response.status_code, response.json()["error"]["code"]))
                elif response.json()["data"][0]["embedding"] != close:
                    strange.append((200, None))
            return [*strange, (answers, "answers")]

        def change(name: str, what: str, status: int = 200) -> Any:
            response = server.client.post(f"/v1/models/{name}/{what}", timeout=60)
            assert response.status_code == status, response.text
            return response.json()

        with ThreadPoolExecutor(2 * clients) as pool:
            try:
                replaced = [pool.submit(ask, NAME) for _ in range(clients)]
                unloaded = [pool.submit(ask, "other") for _ in range(clients)]
                for version in ("2", "3", "4", "5", "6"):
                    place(tmp_path, NAME, version)
                    assert change(NAME, "load")["version"] == version
                    assert change("other", "unload")["state"] == "unloaded"
                    assert change("other", "load")["state"] == "ready"
                    assert server.client.get("/health/ready").status_code == 200
                tampered(place(tmp_path, NAME, "7"))
                assert change(NAME, "load", 422)["error"]["code"] == "model_load_failed"
                item = server.client.get(f"/v1/models/{NAME}").json()
                assert (item["state"], item["version"]) == ("ready", "6")
                assert "SHA-256" in item["error"]
            finally:
                done.set()
            for future in replaced:
                *strange, (answers, _) = future.result()
                assert not strange
                assert answers > 5
            for future in unloaded:
                *strange, _ = future.result()
                assert set(strange) <= {(503, "model_not_ready")}
