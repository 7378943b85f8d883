from typing import get_args

import pytest

from server.schemas.options import ClassifyOptions, EncodeOptions, Options, Pooling, TranscribeOptions
from tests.server.process import Server


@pytest.mark.parametrize(
    ("task", "schema"), [("encode", EncodeOptions), ("transcribe", TranscribeOptions), ("classify", ClassifyOptions)]
)
def test_openapi_documents_the_bodies(server: Server, task: str, schema: type[Options]) -> None:
    operation = server.client.get("/openapi.json").json()["paths"][f"/v1/{task}"]["post"]
    content = operation["requestBody"]["content"]
    assert set(content) == {"multipart/form-data", "application/json", "audio/*", "application/octet-stream"}
    names = set(schema.model_fields)
    assert set(content["multipart/form-data"]["schema"]["properties"]) == {"file", *names}
    assert set(content["application/json"]["schema"]["properties"]) == {"input", *names}
    assert {parameter["name"] for parameter in operation["parameters"]} == names
    assert {"200", "400", "401", "403", "413", "422", "429", "503"} <= set(operation["responses"])


def test_the_values_of_an_option_are_listed(server: Server) -> None:
    operation = server.client.get("/openapi.json").json()["paths"]["/v1/encode"]["post"]
    [pooling] = [parameter for parameter in operation["parameters"] if parameter["name"] == "pooling"]
    assert pooling["schema"]["enum"] == list(get_args(Pooling))


def test_the_page(server: Server) -> None:
    response = server.client.get("/")
    assert response.status_code == 307
    assert response.headers["Location"] == "/docs"
    assert "swagger" in server.client.get("/docs").text
