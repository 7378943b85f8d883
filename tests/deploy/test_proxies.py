"""The configurations for nginx and Caddy: limits that are the server's, and a real server behind them with TLS."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from server.settings import Settings
from tests.server.process import Server, free_port, noise, serving, until, wav
from tests.server.streams import END, hear, pcm16, start

ROOT = Path(__file__).parents[2]
NGINX, CADDY = ROOT / "deploy" / "nginx" / "sonant.conf", ROOT / "deploy" / "caddy" / "Caddyfile"
NAME, MODEL = "sonant.example.org", "hubert-ctc-english"
TASKS = ("encode", "transcribe")
MAX_BODY_BYTES = 4 * 2**20


def limit(page: Path, word: str) -> float:
    """Return the number behind `word`, of bytes or seconds."""
    [found] = re.findall(rf"\b{word} (\d+)s?\b", page.read_text())
    return float(found)


def test_the_limits_are_those_of_the_server() -> None:
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    assert limit(NGINX, "client_max_body_size") == defaults["max_body_bytes"]
    for page, wait, head in (
        (NGINX, "proxy_read_timeout", "client_header_timeout"),
        (CADDY, "response_header_timeout", "read_header"),
    ):
        assert limit(page, wait) > defaults["max_timeout"]
        assert limit(page, head) == defaults["header_timeout"]
    assert limit(NGINX, "client_body_timeout") == defaults["body_timeout"]


def certificate(folder: Path) -> tuple[Path, Path]:
    """Return a certificate for this host that signs itself, and its key."""
    files = folder / "fullchain.pem", folder / "privkey.pem"
    names = ("-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME},IP:127.0.0.1")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
    subprocess.run([*command, "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)
    return files


def nginx(folder: Path, port: int, server: Server) -> list[str]:
    """Return how nginx is started with the project's configuration, whose names and sizes are those of the test."""
    chain, key = certificate(folder)
    page = NGINX.read_text()
    for old, new in (
        ("127.0.0.1:8000", f"127.0.0.1:{server.port}"),
        ("listen 443", f"listen 127.0.0.1:{port}"),
        ("/etc/ssl/sonant/fullchain.pem", str(chain)),
        ("/etc/ssl/sonant/privkey.pem", str(key)),
    ):
        assert page.count(old) == 1
        page = page.replace(old, new)
    places = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = f"daemon off;\npid {folder}/pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
    (folder / "nginx.conf").write_text(f"{main}http {{\naccess_log off;\n{places}{page}}}\n")
    return ["nginx", "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]


def caddy(folder: Path, port: int, server: Server) -> list[str]:
    """Return how Caddy is started, likewise."""
    chain, key = certificate(folder)
    page = CADDY.read_text()
    for old, new in (
        ("127.0.0.1:8000", f"127.0.0.1:{server.port}"),
        ("\n{\n", "\n{\n\tadmin off\n\tauto_https disable_redirects\n"),
        (f"\n{NAME} {{\n", f"\nhttps://127.0.0.1:{port}, https://{NAME}:{port} {{\n\ttls {chain} {key}\n"),
    ):
        assert page.count(old) == 1
        page = page.replace(old, new)
    (folder / "Caddyfile").write_text(page)
    return ["caddy", "run", "--adapter", "caddyfile", "--config", f"{folder}/Caddyfile"]


@contextmanager
def behind(make: Callable[[Path, int, Server], list[str]], folder: Path, server: Server) -> Iterator[httpx.Client]:
    """Run a proxy in front of `server`; give a client of it that checks its certificate."""
    port = free_port()
    command = make(folder, port, server)
    trust = ssl.create_default_context(cafile=str(folder / "fullchain.pem"))
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
        httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=trust, timeout=60) as client,
    ):
        try:
            until(lambda: process.poll() is not None or answers(client))
            assert process.poll() is None, (folder / "log").read_text()
            yield client
        finally:
            process.terminate()


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("make", [nginx, caddy], ids=["nginx", "caddy"])
def test_a_server_behind_a_proxy(make: Callable[[Path, int, Server], list[str]], tmp_path: Path) -> None:
    if shutil.which(make.__name__) is None or shutil.which("openssl") is None:
        pytest.skip(f"{make.__name__} or openssl is not installed")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / MODEL).symlink_to(ROOT / "demo" / "engines" / MODEL)
    with (
        serving(tmp_path / "models", defaults=dict.fromkeys(TASKS, MODEL), max_body_bytes=MAX_BODY_BYTES) as server,
        behind(make, tmp_path, server) as client,
    ):
        speech = wav(noise(1.5))
        plain = server.client.post("/v1/encode", content=speech).json()
        assert client.post("/v1/encode", content=speech).json() == plain

        # Errors of the server's, whose envelope nobody replaces, the second before it has the body; and of the proxy.
        for body, status, code in (
            (b"RIFF", 400, "audio_undecodable"),
            (bytes(MAX_BODY_BYTES + 1), 413, "body_too_large"),
        ):
            refused = client.post("/v1/encode", content=body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
        assert client.get("/metrics").status_code == 404
        assert client.post(f"/v1/models/{MODEL}/unload").status_code == 404
        assert client.get("/health/ready").status_code == 200

        events = client.post("/v1/audio/transcriptions", files={"file": speech}, data={"stream": "true"})
        assert events.headers["content-type"].startswith("text/event-stream")
        kinds = [json.loads(line[6:])["type"] for line in events.text.splitlines() if line.startswith("data: ")]
        assert kinds[-1] == "transcript.text.done"

        trust = ssl.create_default_context(cafile=str(tmp_path / "fullchain.pem"))
        with connect(f"wss://{client.base_url.netloc.decode()}/v1/stream", ssl=trust, compression=None) as socket:
            for message in (start(), pcm16(noise(1.0)).tobytes(), END):
                socket.send(message)
            assert hear(socket).code == 1000

        asyncio.run(a_body_arrives_while_it_is_sent(server, client, trust))


async def a_body_arrives_while_it_is_sent(server: Server, client: httpx.Client, trust: ssl.SSLContext) -> None:
    """Send half of a body: the other half follows when the server has the first."""
    body = wav(noise(20.0))

    async def halves() -> AsyncIterator[bytes]:
        yield body[: len(body) // 2]
        await asyncio.to_thread(until, lambda: server.metric("sonant_held_bytes") >= len(body) // 4)
        yield body[len(body) // 2 :]

    async with httpx.AsyncClient(base_url=client.base_url, verify=trust, timeout=60) as sender:
        answer = await sender.post("/v1/encode", params={"pooling": "mean"}, content=halves())
    assert answer.status_code == 200
