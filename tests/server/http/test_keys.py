from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from starlette.datastructures import Headers
from websockets.exceptions import InvalidStatus

from server.http.keys import Area, area_of, find, is_loopback, key_of
from tests.server.process import Server, serving
from tests.server.streams import opened


def hashed(**keys: str) -> str:
    return json.dumps({name: hashlib.sha256(key.encode()).hexdigest() for name, key in keys.items()})


KEYS: dict[str, Any] = {
    "api_keys": hashed(one="task-key", two="other-task-key"),
    "metrics_keys": hashed(prometheus="metrics-key"),
    "admin_keys": hashed(root="admin-key"),
}
TASK, OTHER, METRICS, ADMIN = "task-key", "other-task-key", "metrics-key", "admin-key"
PUBLIC = ["/health/live", "/docs", "/docs/files/swagger-ui.css", "/redoc", "/openapi.json"]
UNLOAD = "/v1/models/x/unload"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with keys and no models: what gets past the guard is 404 or 400."""
    with serving(tmp_path_factory.mktemp("models"), wait=False, **KEYS) as running:
        yield running


@pytest.fixture(scope="module")
def open_(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server as it is by default."""
    with serving(tmp_path_factory.mktemp("models"), wait=False) as running:
        yield running


def ask(server: Server, method: str, path: str, key: str | None = None, **headers: str) -> httpx.Response:
    bearer = {} if key is None else {"Authorization": f"Bearer {key}"}
    return server.client.request(method, path, headers={**bearer, **headers})


def raw(server: Server, method: str, target: str) -> int:
    """Return the status of the answer to a target that a client would tidy up."""
    with server.connect() as connection:
        head = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode())
        return int(b"".join(iter(lambda: connection.recv(65536), b"")).split()[1])


def code(response: httpx.Response) -> str:
    return str(response.json()["error"]["code"])


def test_the_document_says_what_takes_a_key(guarded: Server) -> None:
    document = ask(guarded, "GET", "/openapi.json").json()
    bearer, header = document["components"]["securitySchemes"].values()
    assert (bearer["type"], bearer["scheme"]) == ("http", "bearer")
    assert (header["type"], header["name"]) == ("apiKey", "X-API-Key")
    without = {
        path for path, methods in document["paths"].items() if not all("security" in one for one in methods.values())
    }
    assert without == {"/health/live", "/health/ready"}


@pytest.mark.parametrize("path", PUBLIC)
def test_public_paths_need_no_key(guarded: Server, path: str) -> None:
    assert ask(guarded, "GET", path).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/encode"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/x"),
        ("GET", "/metrics"),
        ("POST", UNLOAD),
        ("DELETE", "/v1/models/x"),
        ("GET", "/nowhere"),
        ("GET", "/metrics/"),
        ("GET", "/health"),
        ("GET", "/%6detrics"),
    ],
)
def test_everything_else_needs_one(guarded: Server, method: str, path: str) -> None:
    for key, expected in ((None, "api_key_missing"), ("guess", "api_key_invalid"), ("task-ke", "api_key_invalid")):
        response = ask(guarded, method, path, key)
        assert (response.status_code, code(response)) == (401, expected)
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="sonant"'
        assert response.json()["error"]["type"] == "authentication_error"


@pytest.mark.parametrize("target", ["//metrics", "/health/../metrics", "/health/..%2fmetrics", "/v1/../metrics"])
def test_no_spelling_of_a_path_gets_past(guarded: Server, target: str) -> None:
    """What begins with /health/ is public, but there is nothing else than health."""
    assert raw(guarded, "GET", target) in (401, 404)


@pytest.mark.parametrize(
    ("method", "path", "opening", "denied"),
    [
        ("GET", "/v1/models", [TASK, OTHER, ADMIN], [METRICS]),
        ("GET", "/metrics", [METRICS, ADMIN], [TASK, OTHER]),
        ("POST", UNLOAD, [ADMIN], [TASK, OTHER, METRICS]),
    ],
)
def test_which_key_opens_what(guarded: Server, method: str, path: str, opening: list[str], denied: list[str]) -> None:
    for key in opening:
        assert ask(guarded, method, path, key).status_code not in (401, 403)
        assert ask(guarded, method, path, **{"X-API-Key": key}).status_code not in (401, 403)
    for key in denied:
        response = ask(guarded, method, path, key)
        assert (response.status_code, code(response)) == (403, "access_denied")


def test_the_body_is_not_waited_for(guarded: Server) -> None:
    with guarded.connect() as connection:
        connection.sendall(b"POST /v1/encode HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\nRIFF")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 401")
    assert b"api_key_missing" in answer
    assert b"connection: close" in answer.lower()


def test_a_large_body_without_a_key_gets_its_answer(guarded: Server) -> None:
    """The answer is not lost in the reset of a connection that is closed with unread bytes."""
    for _ in range(5):
        response = guarded.client.post("/v1/encode", content=bytes(20_000_000))
        assert (response.status_code, code(response)) == (401, "api_key_missing")


@pytest.mark.parametrize("value", ["Bearer", "Basic dGFzay1rZXk=", "task-key", "Bearertask-key", ""])
def test_what_is_no_bearer_token(guarded: Server, value: str) -> None:
    assert code(ask(guarded, "GET", "/v1/models", Authorization=value)) == "api_key_missing"


def test_bytes_outside_ascii_are_no_key(guarded: Server) -> None:
    with guarded.connect() as connection:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-API-Key: \xff\xfe\r\nConnection: close\r\n\r\n")
        assert b"api_key_invalid" in b"".join(iter(lambda: connection.recv(65536), b""))


def test_the_log_has_the_name_of_the_key_and_never_the_key(tmp_path: Path) -> None:
    with serving(tmp_path, wait=False, **KEYS) as server:
        assert ask(server, "GET", "/v1/models", OTHER).status_code == 200
        ask(server, "GET", "/v1/models", "sonant_mistyped")
        server.process.terminate()
        assert server.process.wait(30) == 0
        entries = [json.loads(line) for line in server.log.splitlines()]
        assert "two" in [entry.get("key") for entry in entries]
        assert OTHER not in server.log
        assert "mistyped" not in server.log


def test_without_keys_tasks_and_metrics_are_open(open_: Server) -> None:
    for path in (*PUBLIC, "/v1/models", "/metrics"):
        assert ask(open_, "GET", path).status_code == 200


def test_without_keys_models_are_managed_from_loopback_but_by_no_page(open_: Server) -> None:
    assert ask(open_, "POST", UNLOAD).status_code == 404
    own = f"http://127.0.0.1:{open_.port}"
    assert ask(open_, "POST", UNLOAD, Origin=own).status_code == 404
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}):
        assert code(ask(open_, "POST", UNLOAD, **headers)) == "access_denied"


def test_with_task_keys_only_no_key_opens_the_rest(tmp_path: Path) -> None:
    with serving(tmp_path, wait=False, api_keys=KEYS["api_keys"]) as server:
        for method, path in (("POST", UNLOAD), ("GET", "/metrics")):
            for key in (None, TASK):
                assert code(ask(server, method, path, key)) == "access_denied"
        assert ask(server, "GET", "/v1/models", TASK).status_code == 200


def test_all_interfaces_without_keys_are_warned_of_and_not_managed(tmp_path: Path) -> None:
    with serving(tmp_path, wait=False, host="0.0.0.0") as server:  # noqa: S104
        assert code(ask(server, "POST", UNLOAD)) == "access_denied"
        assert ask(server, "GET", "/v1/models").status_code == 200
        server.process.terminate()
        assert server.process.wait(30) == 0  # the log is whole
        entries = [json.loads(line) for line in server.log.splitlines()]
        assert any("EVERYBODY" in entry["message"] and entry["level"] == "warning" for entry in entries)


def test_other_origins_are_for_those_that_are_named(tmp_path: Path, open_: Server) -> None:
    page, preflight = "https://app.example", {"Access-Control-Request-Method": "POST"}
    response = ask(open_, "OPTIONS", "/v1/encode", Origin=page, **preflight)
    assert response.status_code == 405
    assert not [name for name in response.headers if name.startswith("access-control")]
    with serving(tmp_path, wait=False, cors_origins=json.dumps([page]), **KEYS) as server:
        response = ask(server, "OPTIONS", "/v1/encode", Origin=page, **preflight)
        assert response.status_code == 200
        assert response.headers["Access-Control-Allow-Origin"] == page
        assert "X-Request-Id" in response.headers
        refused = ask(server, "GET", "/v1/models", Origin=page)
        assert refused.status_code == 401
        assert refused.headers["Access-Control-Allow-Origin"] == page
        for origin in ("https://evil.example", "null", f"{page}.evil.example"):
            answer = ask(server, "GET", "/v1/models", TASK, Origin=origin)
            assert "Access-Control-Allow-Origin" not in answer.headers


def stream(server: Server, *protocols: str, **headers: str) -> tuple[int, str | None]:
    """Return the status of a request for a WebSocket, and the subprotocol or the code of the error."""
    try:
        with opened(server, subprotocols=list(protocols) or None, additional_headers=headers) as connection:
            return 101, connection.subprotocol
    except InvalidStatus as refused:
        return refused.response.status_code, json.loads(refused.response.body or b"")["error"]["code"]


def test_streams_take_a_key_in_a_header_or_among_the_subprotocols(guarded: Server) -> None:
    assert stream(guarded) == (401, "api_key_missing")
    assert stream(guarded, "sonant") == (401, "api_key_missing")
    assert stream(guarded, Authorization=f"Bearer {TASK}") == (101, None)
    assert stream(guarded, **{"X-API-Key": ADMIN}) == (101, None)
    assert stream(guarded, "sonant", f"sonant.key.{TASK}") == (101, "sonant")
    assert stream(guarded, f"sonant.key.{TASK}", "sonant") == (101, "sonant")
    assert stream(guarded, "sonant", "sonant.key.mistyped-key") == (401, "api_key_invalid")
    assert stream(guarded, "sonant", f"sonant.key.{METRICS}") == (403, "access_denied")
    assert TASK not in guarded.log
    assert "mistyped" not in guarded.log


def test_streams_are_opened_by_pages_that_may(tmp_path: Path, open_: Server) -> None:
    page, foreign = "https://app.example", (403, "access_denied")
    assert stream(open_, Origin=f"http://127.0.0.1:{open_.port}") == (101, None)
    for origin in (page, "null", f"http://127.0.0.1:{open_.port + 1}"):
        assert stream(open_, Origin=origin) == foreign
    with serving(tmp_path, wait=False, cors_origins=json.dumps([page]), **KEYS) as server:
        assert stream(server, "sonant", f"sonant.key.{TASK}", Origin=page) == (101, "sonant")
        assert stream(server, "sonant", Origin=page) == (401, "api_key_missing")
        for origin in ("https://evil.example", f"{page}.evil.example"):
            assert stream(server, "sonant", f"sonant.key.{TASK}", Origin=origin) == foreign


NAMES = [
    "..",
    ".",
    "../..",
    "%2e%2e",
    "..%2f..",
    "%2fetc%2fpasswd",
    "x%00",
    "%00",
    "tiny%c0%ae",
    "%ef%bd%94iny-base",
    "tiny-base%2f",
    "TINY-BASE",
    "a" * 256,  # a longer one is no option
]


@pytest.mark.parametrize("name", NAMES)
def test_a_model_name_is_no_path(open_: Server, name: str) -> None:
    for method, target in (("GET", f"/v1/models/{name}"), ("POST", f"/v1/models/{name}/load")):
        assert raw(open_, method, target) in (307, 400, 404)  # 307: to the same without its last slash
    for wanted in {name, unquote(name)}:
        response = open_.client.post("/v1/encode", json={"input": "UklGRg==", "model": wanted})
        assert (response.status_code, code(response)) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("method", "path", "area"),
    [
        ("GET", "/health/ready", "public"),
        ("GET", "/healthy", "tasks"),
        ("POST", "/", "public"),
        ("GET", "/metrics", "metrics"),
        ("GET", "/v1/models/x", "tasks"),
        ("PUT", "/v1/models", "management"),
        ("OPTIONS", "/v1/models/x/load", "management"),
    ],
)
def test_areas(method: str, path: str, area: Area) -> None:
    assert area_of(method, path) == area


def test_a_key_is_found_among_several() -> None:
    keys = json.loads(KEYS["api_keys"])
    assert find(b"task-key", keys) == "one"
    assert find(b"other-task-key", keys) == "two"
    assert find(keys["one"].encode(), keys) is None
    assert find(b"", {}) is None


def test_where_a_key_stands() -> None:
    assert key_of(Headers({"Authorization": "bearer  a"})) == b"a"
    assert key_of(Headers({"X-API-Key": "b"})) == b"b"
    assert key_of(Headers({"Authorization": "Basic c", "X-API-Key": "b"})) == b"b"
    assert key_of(Headers({"Authorization": "Bearer a", "X-API-Key": "b"})) == b"a"
    assert key_of(Headers({})) is None


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:80", "127.9.9.9", "localhost", "LOCALHOST:1", "::1", "[::1]:8"]
)
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.1", "localhost.evil", "127.0.0.1.evil:80", "[::]:80"])  # noqa: S104
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)
