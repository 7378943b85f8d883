import asyncio
from types import SimpleNamespace
from typing import Any, cast

from prometheus_client import REGISTRY

from engines.verify import Check
from server.models.model import Model, Served
from server.scheduling.scheduler import Scheduler
from tests.server.scheduling.fakes import LIMITS, RATE, FakeEngine, clip, outcomes, values


def engine(**errors: float) -> Any:
    checks = {"fp32": [Check("fp32", output, error, error, 1.0) for output, error in errors.items()]}
    form = SimpleNamespace(runtime="onnxruntime", precision="int8")
    return SimpleNamespace(checks=checks, manifest=SimpleNamespace(tasks=("encode",)), form=form, fallbacks=0)


def served(**errors: float) -> Served:
    return Served(engine(**errors), cast(Scheduler, None), file_bytes=100)


def state_of(name: str) -> list[str]:
    states = ("loading", "ready", "failed", "unloading", "unloaded")
    labels = [{"model": name, "state": state} for state in states]
    return [each["state"] for each in labels if REGISTRY.get_sample_value("sonant_model_state", each) == 1]


def error_of(name: str, output: str) -> float | None:
    labels = {"model": name, "graph": "fp32", "output": output}
    return REGISTRY.get_sample_value("sonant_model_verification_error", labels)


def test_a_life_and_its_metrics() -> None:
    model = Model("life")
    assert (model.state, model.tasks, state_of("life")) == ("loading", (), ["loading"])

    first, second = served(pooled=1e-6, logits=2e-6), served(pooled=3e-6)
    assert model.serve(first, "1") is None
    assert (model.state, model.version, model.tasks, state_of("life")) == ("ready", "1", ("encode",), ["ready"])
    assert (error_of("life", "pooled"), error_of("life", "logits")) == (1e-6, 2e-6)
    labels = {"model": "life", "graph": "fp32", "output": "pooled"}
    assert REGISTRY.get_sample_value("sonant_model_verification_bound", labels) == 1.0
    assert REGISTRY.get_sample_value("sonant_model_file_bytes", {"model": "life"}) == 100

    model.fail("version 2 is broken")
    assert (model.state, model.error, model.served) == ("ready", "version 2 is broken", first)

    assert model.serve(second, "3") is first
    assert (model.error, model.version) == (None, "3")
    assert (error_of("life", "pooled"), error_of("life", "logits")) == (3e-6, None)

    assert model.withdraw() is second
    assert (model.state, model.served, error_of("life", "pooled")) == ("unloading", None, None)
    assert REGISTRY.get_sample_value("sonant_model_file_bytes", {"model": "life"}) == 0
    assert model.withdraw() is None
    assert state_of("life") == ["unloaded"]

    model.begin(engine(), "4")
    assert model.state == "loading"
    model.fail("broken")
    assert (model.state, model.error, state_of("life")) == ("failed", "broken", ["failed"])


def test_the_metrics_of_its_forms() -> None:
    def in_use() -> list[str]:
        found = [metric for metric in REGISTRY.collect() if metric.name == "sonant_model_form"]
        samples = [sample for sample in found[0].samples if sample.labels["model"] == "forms"]
        assert all(sample.value == 1 for sample in samples)
        return [f"{sample.labels['runtime']}/{sample.labels['precision']}" for sample in samples]

    def fallbacks() -> float | None:
        return REGISTRY.get_sample_value("sonant_model_form_fallbacks_total", {"model": "forms"})

    model, first, second = Model("forms"), served(), served()
    model.serve(first, None)
    assert (in_use(), fallbacks()) == (["onnxruntime/int8"], 0)
    first.engine.form.precision, first.engine.fallbacks = "fp32", 2  # type: ignore[misc]
    assert in_use() == ["onnxruntime/int8"]
    model.publish()
    assert (in_use(), fallbacks()) == (["onnxruntime/fp32"], 2)
    first.engine.fallbacks = 3  # type: ignore[misc]
    model.serve(second, None)
    assert (in_use(), fallbacks()) == (["onnxruntime/int8"], 3)
    model.withdraw()
    assert (in_use(), fallbacks()) == ([], 3)


def test_its_queue_is_closed_when_the_last_lease_ends_and_what_was_asked_is_finished() -> None:
    async def run() -> None:
        fake = FakeEngine()
        one = Served(cast(Any, fake), Scheduler("leased", fake, RATE, LIMITS))
        with one.lease():
            with one.lease():
                closing = asyncio.create_task(one.close())
                jobs = one.scheduler.submit([clip(1, 3.0)], ["a"])  # also after it was to be closed
                assert values(await outcomes(jobs)) == [3.0]
                assert not closing.done()
            for _ in range(10):
                await asyncio.sleep(0)
            assert not closing.done()
        await closing

    asyncio.run(asyncio.wait_for(run(), 20))
