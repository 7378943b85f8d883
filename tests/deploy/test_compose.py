"""docker-compose.yml: as its specification has it, every container of it locked in, and .env.example complete."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import check_jsonschema
import pytest
import yaml
from click.testing import CliRunner

from server.settings import Settings

ROOT = Path(__file__).parent.parent.parent
FILE = ROOT / "docker-compose.yml"
EXAMPLE = ROOT / ".env.example"
SCHEMA = ("--builtin-schema", "vendor.compose-spec")
VARIABLE = re.compile(r"\$\{(\w+)(?::?-([^}]*))?\}")
SERVERS = ("server", "server-gpu", "blue", "green", "blue-gpu", "green-gpu")
ON_GPU = ("server-gpu", "blue-gpu", "green-gpu", "build")
OURS = (*SERVERS, "export", "build")
ONCE = ("export", "build")


def compose(**settings: str) -> dict[str, Any]:
    """The file with its variables filled in: by `settings`, else by what the file has itself."""

    def fill(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: fill(value) for name, value in part.items()}
        if isinstance(part, list):
            return [fill(value) for value in part]
        if isinstance(part, str):
            return VARIABLE.sub(lambda match: settings.get(match[1], match[2] or ""), part)
        return part

    filled: dict[str, Any] = fill(yaml.safe_load(FILE.read_text()))
    return filled


SERVICES: dict[str, Any] = compose()["services"]
every = pytest.mark.parametrize("name", SERVICES)


def defaults() -> dict[str, set[str | None]]:
    found: dict[str, set[str | None]] = {}
    for name, default in VARIABLE.findall(FILE.read_text()):
        found.setdefault(name, set()).add(default)
    return found


def test_the_file_is_as_its_specification_says(tmp_path: Path) -> None:
    """By the schema of the Compose Specification, which comes with check-jsonschema; every profile is in it."""

    def check(*paths: Path) -> int:
        return CliRunner().invoke(check_jsonschema.main, [*SCHEMA, *map(str, paths)]).exit_code

    filled, wrong = tmp_path / "filled.yml", tmp_path / "wrong.yml"
    filled.write_text(yaml.safe_dump(compose(GPU="0")))
    wrong.write_text(yaml.safe_dump(compose()).replace("capabilities:", "capability:"))
    assert (check(FILE, filled), check(wrong)) == (0, 1)


def test_the_profiles() -> None:
    profiles = {profile for service in SERVICES.values() for profile in service["profiles"]}
    wanted = {"cpu", "gpu", "export", "build", "monitoring", "rolling", "rolling-gpu", "rolling-other"}
    assert profiles == wanted
    assert all(service["profiles"] for service in SERVICES.values())  # nothing runs that was not asked for


@every
def test_every_container_is_locked_in(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["user"].partition(":")[0]) > 0
    assert not service.get("privileged")
    assert "network_mode" not in service
    assert service["logging"]["options"]["max-size"]


@every
def test_what_runs_on_is_started_again_and_is_looked_at(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == ("no" if name in ONCE else "unless-stopped")
    # Those of ours have a health check in their image.
    assert name in OURS or service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert not set(service.get("build", {})) - {"context", "target", "args"}


@every
def test_nothing_listens_beyond_this_host_by_itself(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@every
def test_images_of_others_have_a_version(name: str) -> None:
    image = SERVICES[name]["image"]
    assert ("build" in SERVICES[name]) == image.startswith("sonant:") == (name in OURS)
    assert re.fullmatch(r"sonant:(cpu|gpu|export)|[a-z/]+:v?\d+\.\d+\.\d+(-alpine)?", image)


@every
def test_what_is_mounted_is_there(name: str) -> None:
    service = SERVICES[name]
    declared = compose()["volumes"]
    for volume in service.get("volumes", []):
        source, _, rest = volume.partition(":")
        assert source in declared or (ROOT / source).exists(), volume
        assert source in declared or rest.endswith(":ro"), "a folder of the checkout must not be written"
    for secret in service.get("secrets", []):
        source = secret if isinstance(secret, str) else secret["source"]
        assert source in compose()["secrets"]


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_writes_into_its_cache_and_its_spool_only(name: str) -> None:
    places = [volume.rpartition(":/")[0] and volume.split(":", 1)[1] for volume in SERVICES[name]["volumes"]]
    assert places == ["/models:ro", "/cache", "/spool"]


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_has_the_time_that_it_takes_to_end(name: str) -> None:
    shutdown = int(SERVICES[name]["environment"]["SONANT_SHUTDOWN_SECONDS"])
    assert shutdown == Settings.model_fields["shutdown_seconds"].default
    assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) > shutdown


@pytest.mark.parametrize("name", OURS)
def test_the_environment_has_settings_that_there_are(name: str) -> None:
    names = [key for key in SERVICES[name].get("environment", {}) if key.startswith("SONANT_")]
    assert all(key.removeprefix("SONANT_").lower() in Settings.model_fields for key in names)
    assert ("SONANT_CONFIG" in names) == (name in SERVERS)


@pytest.mark.parametrize("name", ON_GPU)
def test_gpus_are_reserved(name: str) -> None:
    [device] = SERVICES[name]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "device_ids": ["all"], "capabilities": ["gpu"]}
    assert SERVICES[name]["shm_size"]
    [device] = compose(GPU="3")["services"][name]["deploy"]["resources"]["reservations"]["devices"]
    assert device["device_ids"] == ["3"]
    assert all("deploy" not in service for other, service in SERVICES.items() if other not in ON_GPU)


@pytest.mark.parametrize("name", ["server-gpu", "blue-gpu", "green-gpu"])
def test_a_server_on_gpus_wants_them_and_the_limits_that_they_need(name: str) -> None:
    service = SERVICES[name]
    assert service["environment"]["SONANT_DEVICE"] == "cuda"
    assert Settings.model_validate({"device_ids": yaml.safe_load(service["environment"]["SONANT_DEVICE_IDS"])})
    assert set(service["ulimits"]) == {"nofile", "memlock", "stack"}
    assert [secret["source"] for secret in service["secrets"]] == ["server-gpu"]


def test_prometheus_finds_whichever_server_runs() -> None:
    """deploy/prometheus asks `server`; the proxy asks `blue` and `green`."""
    for name in SERVERS:
        aliases = SERVICES[name].get("networks", {}).get("default", {}).get("aliases", [])
        assert "server" in (name, *aliases)
        assert name.removesuffix("-gpu") in (name, *aliases) or name == "server-gpu"
    [job] = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    [found] = job["dns_sd_configs"]
    assert (found["names"], found["port"]) == (["server"], 8000)
    assert job["authorization"]["credentials_file"] == "/run/secrets/metrics_key"


def test_secrets_are_files_that_there_are_for_the_demo_and_that_the_script_makes() -> None:
    script = (ROOT / "deploy" / "secrets.sh").read_text()
    for name, secret in compose()["secrets"].items():
        path = ROOT / secret["file"]
        assert path.parent.name == ("secrets" if name == "server-gpu" else "demo")
        assert name == "server-gpu" or path.is_file()
        assert f"write {path.name} " in script


def test_the_example_has_every_variable_with_its_default() -> None:
    lines = re.findall(r"^#([A-Z_]+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE)
    lines.remove(("COMPOSE_PROFILES", ""))  # of Docker itself
    assert len({name for name, _ in lines}) == len(lines)
    assert {name for name, _ in lines} == set(defaults())
    for name, value in lines:
        assert value in defaults()[name], name
    # Where defaults differ by service, the text says so.
    assert {name for name, values in defaults().items() if len(values) > 1} == {"MODELS", "SECRETS"}
    # What is not a comment would be a setting.
    assert not re.search(r"^[^#\n]", EXAMPLE.read_text(), re.MULTILINE)
