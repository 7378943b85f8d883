"""What Prometheus and Grafana are given: what it names is what the server has, and every alert has its section."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import httpx
import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from promql_parser import AggregateExpr, BinaryExpr, VectorSelector

from deploy.grafana.contents import ROWS
from deploy.grafana.dashboard import COLUMNS, FILE, text
from deploy.grafana.picture import Prometheus, picture
from deploy.grafana.picture import shown as written
from tests.server.process import Server, free_port, noise, serving, until, wav
from tests.server.streams import END, pcm16, say, start
from tests.test_documents import HEADING, LINK, anchor_of

ROOT = Path(__file__).parents[2]
PROMETHEUS, GRAFANA = ROOT / "deploy" / "prometheus", ROOT / "deploy" / "grafana"
PAGE = ROOT / "deploy" / "README.md"
ENGINES = {"encode": "hubert-ctc-english", "transcribe": "hubert-ctc-english"}
# What Prometheus makes itself, and puts to what it scrapes.
OWN = {"up": {"job", "instance"}, "ALERTS": {"alertname", "alertstate", "severity", "instance", "model", "job"}}
TARGET = {"job", "instance"}
# Labels whose values are words of the server: those that an expression names must be among them.
WORDS = {"state", "outcome", "reason", "code", "task", "kind", "stage"}
VARIABLES = {"$__rate_interval": "5m", "$__range": "1h", "$instance": ".*", "$model": ".*"}

Metrics = dict[str, list[dict[str, str]]]

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    return json.loads(FILE.read_text())  # type: ignore[no-any-return]


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def shown() -> dict[str, str]:
    """Return the expressions of the dashboard, by what shows them."""
    found = {f"{panel['title']} {target['refId']}": target["expr"] for panel in panels() for target in panel["targets"]}
    found |= {annotation["name"]: annotation["expr"] for annotation in dashboard()["annotations"]["list"]}
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            [found[f"variable {variable['name']}"]] = re.findall(r"label_values\((.+), \w+\)", variable["definition"])
    return found


EXPRESSIONS = {rule["alert"]: rule["expr"] for rule in rules()} | shown()


@dataclass
class Used:
    """What an expression names."""

    selectors: list[VectorSelector] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)  # that it groups or joins by

    def visit(self, node: object) -> None:
        if isinstance(node, VectorSelector):
            self.selectors.append(node)
        if isinstance(node, AggregateExpr) and node.modifier:
            self.labels |= set(node.modifier.labels)
        if isinstance(node, BinaryExpr) and node.modifier and node.modifier.matching:
            self.labels |= set(node.modifier.matching.labels)


def used(expression: str) -> Used:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    found = Used()
    promql_parser.walk(promql_parser.parse(expression), found.visit)
    return found


def faults(expression: str, metrics: Metrics) -> list[str]:
    """Return what `expression` names and no server has."""
    found, named = used(expression), []
    there: set[str] = set()
    for selector in found.selectors:
        name = selector.name or ""
        if name not in metrics and name not in OWN:
            named.append(name)
            continue
        labels = OWN.get(name) or TARGET.union(*metrics[name])
        there |= labels
        for matcher in selector.matchers.matchers:
            if matcher.name not in labels:
                named.append(f"{name}.{matcher.name}")
            elif matcher.name in WORDS and name in metrics:
                values = {sample.get(matcher.name) for sample in metrics[name]}
                named += [f"{name}.{matcher.name} {word}" for word in matcher.value.split("|") if word not in values]
    return named + sorted(found.labels - there)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of one engine of the demo that has answered, streamed and refused."""
    folder = tmp_path_factory.mktemp("models")
    for name in set(ENGINES.values()):
        (folder / name).symlink_to(ROOT / "demo" / "engines" / name)
    with serving(folder, defaults=ENGINES) as running:
        assert running.client.post("/v1/encode", content=wav(noise(1.0))).status_code == 200
        assert running.client.post("/v1/encode", content=b"RIFF").status_code == 400
        assert running.client.get("/v1/nothing").status_code == 404
        assert say(running, start(), pcm16(noise(1.0)).tobytes(), END).code == 1000
        yield running


@pytest.fixture(scope="module")
def metrics(server: Server) -> Metrics:
    """The labels of every sample of the running server, by its name."""
    found: Metrics = defaultdict(list)
    for family in text_string_to_metric_families(server.client.get("/metrics").text):
        for sample in family.samples:
            found[sample.name].append(sample.labels)
    return dict(found)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_the_server_has_what_is_named(metrics: Metrics, name: str) -> None:
    assert faults(EXPRESSIONS[name], metrics) == []


def test_what_the_server_does_not_have_is_found(metrics: Metrics) -> None:
    assert faults('sum by (task) (rate(sonant_requests_total{status="200"}[5m]))', metrics) == []
    assert faults("sonant_request_duration_seconds", metrics) == ["sonant_request_duration_seconds"]
    assert faults('rate(sonant_requests_total{modle="x"}[5m])', metrics) == ["sonant_requests_total.modle"]
    assert faults("sum by (stage) (sonant_requests_total)", metrics) == ["stage"]
    assert faults("sonant_ready * on (host) up", metrics) == ["host"]
    assert faults('sonant_model_state{state=~"ready|broken"}', metrics) == ["sonant_model_state.state broken"]


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_only_servers_of_ours_are_asked_about(name: str) -> None:
    for selector in used(EXPRESSIONS[name]).selectors:
        if selector.name != "ALERTS":
            assert ("job", "sonant") in [(one.name, one.value) for one in selector.matchers.matchers]


def test_legends_are_labels_that_are_there() -> None:
    for panel in panels():
        for target in panel["targets"]:
            legends = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            found = used(target["expr"])
            assert legends <= found.labels | TARGET, panel["title"]


def test_the_dashboard_is_what_its_contents_say() -> None:
    # Written anew by: python -m deploy.grafana.dashboard
    assert FILE.read_text() == text()
    assert len(panels()) == sum(len(row) for row in ROWS.values())


def test_panels_stand_side_by_side() -> None:
    places = [panel["gridPos"] for panel in dashboard()["panels"]]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= COLUMNS for place in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above
    numbers = [panel["id"] for panel in dashboard()["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_every_panel_says_what_it_shows() -> None:
    titles = [panel["title"] for panel in panels()]
    assert len(set(titles)) == len(titles)
    for panel in panels():
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        # By name in the provisioned data source, by choice in any other.
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}


def test_what_is_asked_for_by_the_operators_is_shown() -> None:
    names = {selector.name for expression in shown().values() for selector in used(expression).selectors}
    wanted = {"sonant_requests_total", "sonant_stage_duration_seconds_bucket", "sonant_queue_audio_seconds"}
    wanted |= {"sonant_batch_clips_sum", "sonant_batch_padding_ratio_sum", "sonant_engine_busy_seconds_total"}
    wanted |= {"sonant_model_verification_error", "sonant_model_form", "process_resident_memory_bytes"}
    assert wanted <= names


def test_every_alert_says_what_it_is_and_where_to_read_on(metrics: Metrics) -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"]["runbook_url"] == f"deploy/README.md#{rule['alert'].lower()}"
        found = used(rule["expr"])
        names = [selector.name or "" for selector in found.selectors]
        there = found.labels or {"job"}.union(*(OWN.get(name) or TARGET.union(*metrics[name]) for name in names))
        summary = rule["annotations"]["summary"]
        assert summary
        assert set(re.findall(r"\$labels\.(\w+)", summary)) <= there, rule["alert"]


def test_every_alert_has_its_section_and_its_case_and_nothing_else_does() -> None:
    alerts = [rule["alert"] for rule in rules()]
    assert re.findall(r"^### (Sonant\w+)$", PAGE.read_text(), re.MULTILINE) == alerts
    files = sorted(PROMETHEUS.glob("*_test.yml"))
    cases = [case for file in files for case in yaml.safe_load(file.read_text())["tests"]]
    for name in alerts:
        [case] = [case for case in cases if case["name"] == name]
        outcomes = [bool(one["exp_alerts"]) for one in case["alert_rule_test"] if one["alertname"] == name]
        assert set(outcomes) == {False, True}, name
    assert len(cases) == len(alerts)


def test_links_of_the_page_lead_somewhere() -> None:
    for target, anchor in LINK.findall(PAGE.read_text()):
        file = PAGE.parent / target if target else PAGE
        assert file.exists(), target
        if anchor:
            assert anchor in {anchor_of(heading) for heading in HEADING.findall(file.read_text())}, (target, anchor)


def test_what_is_provisioned_fits_together() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    [scrape] = config["scrape_configs"]
    assert scrape["job_name"] == "sonant"
    assert scrape["authorization"]["credentials_file"] == "/run/secrets/metrics_key"
    assert scrape["dns_sd_configs"][0]["names"] == ["server"]
    assert "server" in compose
    assert all((PROMETHEUS / name).is_file() for name in config["rule_files"])
    assert all(list(PROMETHEUS.glob(pattern)) for one in scrape["file_sd_configs"] for pattern in one["files"])

    [source] = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
    [provider] = yaml.safe_load((GRAFANA / "provisioning/dashboards/sonant.yml").read_text())["providers"]
    mounted = [str(volume).split(":")[1] for volume in compose["grafana"]["volumes"]]
    assert f"{provider['options']['path']}/{FILE.name}" in mounted


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0123, "percentunit", "1.23%"),
        (2.5, "s", "2.5 s"),
        (0.438, "s", "438 ms"),
        (3 * 2**20, "bytes", "3 MiB"),
        (2048, "binBps", "2 KiB/s"),
        (3.5, "reqps", "3.5 req/s"),
        (1e-5, "sci", "1.0e-05"),
        (float("nan"), "percentunit", "none"),
    ],
)
def test_values_are_written_with_their_units(value: float, unit: str, text: str) -> None:
    assert written(value, unit) == text


def promtool(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command: Sequence[str | Path] = ("promtool", *words)
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROMETHEUS)


@needs_promtool
@pytest.mark.parametrize(
    "words",
    [
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts_test.yml"),
        pytest.param(("test", "rules", "alerts_days_test.yml"), marks=pytest.mark.slow),
        ("check", "config", "--syntax-only", "prometheus.yml"),
    ],
    ids=["rules", "cases", "days", "configuration"],
)
def test_prometheus_own_tool_agrees(words: tuple[str, ...]) -> None:
    done = promtool(*words)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")
def test_prometheus_scrapes_a_server_with_keys_and_answers_every_panel(server: Server, tmp_path: Path) -> None:
    """With the provisioned configuration, but for the addresses, the place of the key and the time between scrapes."""
    key = "a key of Prometheus"
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    [scrape] = config["scrape_configs"]
    scrape["authorization"]["credentials_file"] = str(tmp_path / "metrics_key")
    del scrape["dns_sd_configs"]
    shutil.copytree(PROMETHEUS / "targets", tmp_path / "targets")
    shutil.copy(PROMETHEUS / "alerts.yml", tmp_path)
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    (tmp_path / "metrics_key").write_text(key)
    keys = json.dumps({"prometheus": hashlib.sha256(key.encode()).hexdigest()})
    models, port = tmp_path / "models", free_port()
    models.mkdir()
    (models / ENGINES["encode"]).symlink_to(ROOT / "demo" / "engines" / ENGINES["encode"])
    with serving(models, defaults=ENGINES, metrics_keys=keys) as guarded:
        assert guarded.client.get("/metrics").status_code == 401
        (tmp_path / "targets" / "host.yml").write_text(f"- targets: ['127.0.0.1:{guarded.port}']\n")
        command = ["prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
        with (
            (tmp_path / "log").open("wb") as log,
            subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stderr=log) as process,
        ):
            try:
                prometheus = Prometheus(f"http://127.0.0.1:{port}", minutes=1, interval="10s")
                until(lambda: process.poll() is not None or is_up(prometheus))
                for _ in range(3):
                    assert guarded.client.post("/v1/encode", content=wav(noise(1.0))).status_code == 200
                until(lambda: prometheus.now('sonant_requests_total{status="200", task="encode"} >= 3'))
                empty, refused = picture(prometheus, "dark", str(tmp_path / "dashboard.png"))
                assert refused == []
                # There is no stream, no error and no alert.
                assert len(empty) < len(panels()) / 2, empty
                assert (tmp_path / "dashboard.png").stat().st_size > 0
                assert prometheus.now("ALERTS") == []
            finally:
                process.terminate()


def is_up(prometheus: Prometheus) -> bool:
    try:
        return bool(prometheus.now("up == 1"))
    except httpx.HTTPError:
        return False
