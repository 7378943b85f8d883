import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest

from server.memory import Memory
from server.routes.uploads import Uploads
from server.spool import MAX_UPLOAD_BYTES_IN_MEMORY, Spool
from tests.server.process import Server, noise, serving, wav

NAME = "sew-commands-english"
ENGINE = Path(__file__).parents[3] / "demo" / "engines" / NAME
ROOM = 64 * 2**20  # on the disk, for all requests, and for the largest body
SOON = 60  # seconds, for what takes one on an idle machine


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models, spool = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("spool")
    (models / NAME).symlink_to(ENGINE)
    with serving(models, spool=str(spool), spool_bytes=ROOM, max_body_bytes=ROOM) as running:
        yield running
        assert list(spool.iterdir()) == []


def spooled(server: Server) -> list[int]:
    """Return the sizes of the files without names that the server has."""
    sizes = []
    for link in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            if "/spool" in str(link.readlink()):
                sizes.append(link.stat().st_size)
    return sizes


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def post(server: Server, **content: object) -> httpx.Response:
    return server.client.post("/v1/classify", timeout=SOON, **content)  # type: ignore[arg-type]


def test_memory_is_given_back_for_what_is_written(tmp_path: Path) -> None:
    sizes: list[int] = []

    async def arriving() -> AsyncIterator[bytes]:
        for _ in range(100):
            memory.take(100_000)
            sizes.append(account.held)
            yield bytes(100_000)

    account, spool = Memory("request bodies", math.inf), Spool(tmp_path, math.inf)
    with account.hold() as memory, spool.hold() as disk:
        upload = asyncio.run(Uploads(spool, memory, disk).read(arriving()))
        assert account.held == 0
        assert spool.account.held == 10_000_000
        with upload.open() as file:
            assert file.read() == bytes(10_000_000)
    assert max(sizes) <= MAX_UPLOAD_BYTES_IN_MEMORY + 100_000
    spool.close()


def test_an_upload_that_is_spooled_gives_the_same_answer(server: Server) -> None:
    short = wav(noise(1))
    long = wav(noise(1, 768_000), 768_000)  # 3 MB
    assert len(long) > MAX_UPLOAD_BYTES_IN_MEMORY
    raw = post(server, content=long)
    form = post(server, files=[("file", short), ("file", long), ("file", long)])
    assert (raw.status_code, form.status_code) == (200, 200)
    first, *others = [[one["score"] for one in item["labels"]] for item in form.json()["data"]]
    expected = [one["score"] for one in raw.json()["data"][0]["labels"]]
    np.testing.assert_allclose(others, [expected, expected], rtol=1e-4)
    assert first != expected
    until(lambda: spooled(server) == [])


def test_an_upload_takes_no_memory(server: Server) -> None:
    assert post(server, content=bytes(2 * 2**20)).status_code == 400
    before = server.peak_kib
    for content in ({"content": bytes(ROOM - 1000)}, {"files": {"file": bytes(ROOM - 1000)}}):
        assert server.error(post(server, **content)) == (
            400,
            "audio_undecodable",
            "file[0]" if "files" in content else None,
        )
    assert server.peak_kib - before < 20 * 1024
    until(lambda: spooled(server) == [])


def test_more_than_the_disk_has_room_for(server: Server) -> None:
    head = f"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Type: audio/wav\r\nContent-Length: {ROOM}\r\n\r\n"
    with server.connect() as connection:
        connection.sendall(head.encode() + bytes(ROOM // 2 + 2**20))
        until(lambda: sum(spooled(server)) >= ROOM // 2)
        refused = post(server, content=bytes(ROOM // 2))
        assert server.error(refused) == (429, "memory_full", None)
        assert refused.headers["retry-after"] == "1"
        assert post(server, content=wav(noise(1))).status_code == 200  # stays in memory
    until(lambda: spooled(server) == [])  # its client has left
    assert server.error(post(server, content=bytes(ROOM // 2)))[0] == 400


def test_a_clip_that_the_disk_has_no_room_for(server: Server) -> None:
    silence = wav(np.zeros(1200 * 16_000, np.float32), format_="FLAC", subtype="PCM_16")  # 77 MB when it is decoded
    response = post(server, content=silence, params={"windows": "auto"})
    assert server.error(response) == (413, "request_too_large", None)
    until(lambda: spooled(server) == [])


def test_a_file_that_never_fits_beside_its_clip(server: Server) -> None:
    data = wav(np.zeros(720 * 16_000, np.float32), subtype="PCM_16")  # 22 MiB, and 44 MiB of samples
    assert server.error(post(server, content=data)) == (413, "request_too_large", None)
