"""A model that goes on in another form, since that was measured to be faster: no request notices."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engines.engine import Engine
from engines.errors import EngineInvalidError
from engines.manifest import Graph
from server.calibration import Calibration
from server.calibration.cache import Cache, key_of
from server.errors import ApiError
from server.models.table import Models
from server.settings import Settings
from tests.server.models.two_forms import place
from tests.server.process import noise, serving, wav

ENCODER, WRITER = "hubert-intent-english", "hubert-translate-english-german"
FP32, INT8 = "onnxruntime/fp32", "onnxruntime/int8"
EXACT = replace(Calibration.default(), threads=1, form=FP32, measured="2026-01-01T00:00:00+00:00")
PROGRAM = ("-m", "tests.server.models.preferring")


def loaded(folder: Path, test: Callable[[Models], Awaitable[None]]) -> None:
    async def run() -> None:
        models = Models(Settings(models=folder / "models", cache=folder / "cache", threads=1, max_error=1.0))
        await models.load_all()
        try:
            await asyncio.wait_for(test(models), 120)
        finally:
            await models.close()

    (folder / "models").mkdir(exist_ok=True)
    asyncio.run(run())


async def exchange(models: Models, name: str, measured: Calibration) -> None:
    served = models.find(name).served
    assert served
    await models._renew(served, measured)


@pytest.mark.parametrize("name", [ENCODER, WRITER])
def test_no_request_fails_and_the_memory_of_the_former_is_given_back(tmp_path: Path, name: str) -> None:
    (tmp_path / "models").mkdir()
    place(tmp_path / "models" / "any", name)

    async def test(models: Models) -> None:
        model = models.find("any")
        before = model.served
        assert before
        assert before.engine.form.name == INT8
        forms: list[str] = []

        async def ask() -> None:
            while FP32 not in forms:
                async with models.lease("any", "encode") as served:
                    [job] = served.scheduler.submit([noise(0.5)], ["pooled"])
                    assert not isinstance(await job.future, ApiError)
                    forms.append(served.engine.form.name)

        asking = [asyncio.create_task(ask()) for _ in range(3)]
        await exchange(models, "any", EXACT)
        await asyncio.gather(*asking)
        assert INT8 in forms
        served = model.served
        assert served
        assert served.calibration == EXACT
        assert (served.engine.form.name, model.engine, model.state) == (FP32, served.engine, "ready")
        assert any(
            graph.name.startswith("fp32") for graph in served.engine.graphs if graph.name in served.engine.checks
        )
        await asyncio.gather(*models._retired)
        assert not before.engine._sessions
        assert (served.text is not None) == (name == WRITER)

    loaded(tmp_path, test)


def test_a_form_that_does_not_load_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "models").mkdir()
    place(tmp_path / "models" / "any")
    Cache(tmp_path / "cache").write(key(tmp_path / "models" / "any"), EXACT)
    opened = Engine.open_graph

    def fail(engine: Engine, graph: Graph) -> Any:
        if graph.precision == "int8" or "memory" in faults:
            raise EngineInvalidError(f"graph {graph.name} is broken")
        return opened(engine, graph)

    faults: set[str] = set()
    monkeypatch.setattr(Engine, "open_graph", fail)

    async def test(models: Models) -> None:
        before = models.find("any").served
        assert before
        assert before.engine.form.name == FP32  # as was measured
        await exchange(models, "any", replace(EXACT, form=INT8))
        assert models.find("any").served is before
        faults.add("memory")
        await exchange(models, "any", replace(EXACT, form=INT8))
        assert models.find("any").served is before
        assert "model any stays in onnxruntime/fp32: graph fp32 is broken" in caplog.text

    loaded(tmp_path, test)


def test_an_engine_that_was_replaced_meanwhile_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    folder = place(tmp_path / "models" / "any")

    async def test(models: Models) -> None:
        before = models.find("any").served
        assert before
        (folder / "engine.json").touch()  # its load is about to be asked for
        await models._renew(before, EXACT)
        assert models.find("any").served is before
        await models.unload("any")
        await models._renew(before, EXACT)
        assert models.find("any").served is None

    loaded(tmp_path, test)


def test_a_bound_for_a_model_that_is_not_there_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place(tmp_path / "any")
    Models(Settings(models=tmp_path, model_errors={"any": 0.1, "other": 0.1}))
    assert caplog.messages == ["model_errors has 'other', which is not in the models folder"]


def key(folder: Path) -> dict[str, object]:
    options = Settings(threads=1, max_error=1.0).options(folder.name)
    return key_of(Engine(folder, options=options), options, 0)


def test_a_form_that_fell_back_is_not_run_as_the_other_was_measured(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "models").mkdir()
    folder = place(tmp_path / "models" / "any")
    Cache(tmp_path / "cache").write(key(folder), replace(EXACT, form=INT8, seconds_per_second=0.5))
    with (folder / "int8.onnx").open("ab") as file:
        file.write(b"\0")

    async def test(models: Models) -> None:
        served = models.find("any").served
        assert served
        assert served.calibration
        assert (served.engine.form.name, served.calibration.form) == (FP32, None)
        assert served.calibration.seconds_per_second == 0

    loaded(tmp_path, test)


@pytest.mark.slow
def test_a_server_measures_its_forms_and_goes_on_in_the_best(tmp_path: Path) -> None:
    """The second form is a copy of the first: of what is as fast, the most exact is taken."""
    (tmp_path / "models").mkdir()
    place(tmp_path / "models" / "any")
    settings: dict[str, Any] = {"calibrate": "background", "cache": str(tmp_path / "cache"), "max_error": 1.0}
    with serving(tmp_path / "models", program=PROGRAM, **settings) as server:

        def item() -> Any:
            return server.client.get("/v1/models/any").json()

        def used() -> list[str]:
            return [f"{each['runtime']}/{each['precision']}" for each in item()["forms"] if each["in_use"]]

        assert used() == [INT8]
        assert server.metric('sonant_model_form{model="any",precision="int8",runtime="onnxruntime"}') == 1
        end = time.monotonic() + 300
        while used() == [INT8]:
            assert time.monotonic() < end, server.log
            time.sleep(0.2)
        assert used() == [FP32]
        calibration = item()["calibration"]
        assert calibration["form"] == FP32
        assert [each["form"] for each in calibration["forms"]] == [INT8, FP32]
        assert all(each["reason"] is None for each in item()["forms"])
        response = server.client.post("/v1/encode?pooling=mean", content=wav(noise(1)))
        assert response.status_code == 200
        assert server.metric('sonant_model_form{model="any",precision="fp32",runtime="onnxruntime"}') == 1
        assert server.metric("sonant_model_form_fallbacks_total") == 0
    with serving(tmp_path / "models", program=PROGRAM, **settings | {"calibrate": "off"}) as server:
        assert used() == [FP32]
