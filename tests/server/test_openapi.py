from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from server.openapi import EXAMPLES, TAGS
from tests.documents import ABSOLUTE, RELATIVE, demo
from tests.server.examples import JSON, Call, make, send
from tests.server.process import Server

# They are of the host, or of the moment.
VOLATILE = {"created", "calibration"}
Operation = dict[str, Any]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with demo() as running:
        yield running


@pytest.fixture(scope="module")
def document(server: Server) -> dict[str, Any]:
    return dict(server.client.get("/openapi.json").json())


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, Operation]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def check(value: Any, schema: dict[str, Any], document: dict[str, Any]) -> None:
    OAS31Validator({**schema, "components": document["components"]}).validate(value)


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()


def test_what_generators_of_clients_need(document: dict[str, Any]) -> None:
    found = [operation for _, _, operation in operations(document)]
    identifiers = [operation["operationId"] for operation in found]
    assert len(set(identifiers)) == len(identifiers)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in identifiers)
    tags = {name for name, _ in TAGS.values()}
    assert (
        {tag for operation in found for tag in operation["tags"]} == tags == {tag["name"] for tag in document["tags"]}
    )
    schemes = {name for operation in found for one in operation.get("security", []) for name in one}
    assert schemes == set(document["components"]["securitySchemes"])
    assert all(operation["summary"] and operation["description"] for operation in found)


def test_what_fills_in_defaults_sends_no_option_twice(document: dict[str, Any]) -> None:
    parameters = [one for _, _, operation in operations(document) for one in operation.get("parameters", [])]
    assert len(parameters) > 30
    assert not [one["name"] for one in parameters if "default" in one["schema"]]


def test_an_error_has_one_form(document: dict[str, Any]) -> None:
    forms = {
        json.dumps(response["content"][JSON]["schema"])
        for path, _, operation in operations(document)
        for status, response in operation["responses"].items()
        if int(status) >= 400 and path != "/health/ready"
    }
    assert forms == {'{"$ref": "#/components/schemas/ErrorAnswer"}'}


def test_each_task_has_an_example_of_each_body_and_of_errors(document: dict[str, Any]) -> None:
    for task in ("encode", "transcribe", "classify"):
        operation = document["paths"][f"/v1/{task}"]["post"]
        bodies = operation["requestBody"]["content"]
        assert all(bodies[media]["examples"] for media in (JSON, "multipart/form-data", "audio/*")), task
        shown = {status for status, answer in operation["responses"].items() if answer["content"][JSON].get("examples")}
        assert {"200", "400", "401", "403", "404", "413", "415", "422", "504"} <= shown


def test_every_example_has_its_place(document: dict[str, Any]) -> None:
    written = json.loads(EXAMPLES.read_text())
    assert document["components"]["examples"] == written["shared"]
    found = {operation["operationId"]: operation for _, _, operation in operations(document)}
    for name, parts in written["operations"].items():
        for part, by_media in parts.items():
            body = found[name][part] if part == "requestBody" else found[name]["responses"][part]
            assert {media: body["content"][media]["examples"] for media in by_media} == by_media


def test_the_examples_of_requests_can_be_sent(server: Server, document: dict[str, Any]) -> None:
    count = 0
    for path, method, operation in operations(document):
        for media, content in operation.get("requestBody", {}).get("content", {}).items():
            for name, example in content.get("examples", {}).items():
                if "value" in example:
                    body = example["value"]
                    check(body, content["schema"], document)
                else:
                    body = base64.b64decode(example["externalValue"].partition(",")[2])
                response = send(server, Call(operation["operationId"], path, method=method, media=media, body=body))
                assert response.status_code == 200, (path, name, response.text)
                answer = operation["responses"]["200"]["content"]
                assert name in answer[response.headers["content-type"].partition(";")[0]]["examples"]
                count += 1
    assert count >= 10


def test_the_examples_of_answers_have_their_schema(document: dict[str, Any]) -> None:
    count = 0
    for _, _, operation in operations(document):
        for response in operation["responses"].values():
            for content in response.get("content", {}).values():
                for example in content.get("examples", {}).values():
                    if "$ref" in example:
                        example = document["components"]["examples"][example["$ref"].rpartition("/")[2]]
                    check(example["value"], content["schema"], document)
                    count += 1
    assert count >= 50


def test_the_examples_are_what_the_server_answers_now(server: Server) -> None:
    written = json.loads(EXAMPLES.read_text())
    audio = written["operations"]["encode"]["requestBody"][JSON]["pooled"]["value"]["input"]
    now = make(server, base64.b64decode(audio))
    compare(now, written, "")


def compare(now: Any, written: Any, where: str) -> None:
    """Digits may differ in the last places. What differs is written anew by `python -m tests.server.examples`."""
    if isinstance(written, dict):
        assert now.keys() == written.keys(), where
        for key in written.keys() - VOLATILE:
            compare(now[key], written[key], f"{where}/{key}")
    elif isinstance(written, list):
        assert len(now) == len(written), where
        for index, value in enumerate(written):
            compare(now[index], value, f"{where}/{index}")
    elif isinstance(written, float):
        assert now == pytest.approx(written, rel=RELATIVE, abs=ABSOLUTE), where
    elif where.endswith("/embedding"):
        pass  # base64, whose last bits are those of the processor; its shape stands beside it
    else:
        assert now == written, where


def test_a_difference_of_examples_is_found() -> None:
    written = {"data": [{"score": 0.5, "label": "a"}], "created": 1}
    compare({"data": [{"score": 0.50001, "label": "a"}], "created": 2}, written, "")
    for wrong in ({"score": 0.6, "label": "a"}, {"score": 0.5, "label": "b"}, {"score": 0.5}):
        with pytest.raises(AssertionError):
            compare({"data": [wrong], "created": 1}, written, "")


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_the_pages_ask_no_other_host(server: Server, path: str) -> None:
    page = server.client.get(path).text
    addresses = re.findall(r"(?:src|href)=[\"']([^\"']+)|url: '([^']+)|spec-url=\"([^\"]+)", page)
    found = ["".join(address) for address in addresses]
    assert len(found) >= 3
    assert "/openapi.json" in found
    assert all(server.client.get(address).status_code == 200 for address in found if address.startswith("/")), found
    assert not re.search(r"https?://", page)


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_a_browser_without_a_network_shows_the_page(server: Server, path: str, tmp_path: Path) -> None:
    assert BROWSER
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "--virtual-time-budget=20000"]
    done = subprocess.run([*command, "--dump-dom", f"{server.client.base_url}{path}"], capture_output=True, timeout=120)
    page = re.sub(r"<[^>]*>", "", done.stdout.decode())
    for text in ("Audio in; text, labels or embeddings out.", "Audio -&gt; text", "For supervisors and monitoring."):
        assert text in page
