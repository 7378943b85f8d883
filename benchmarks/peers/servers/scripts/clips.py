"""FastAPI in front of something that takes clips one by one, in a single thread: as many users write it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, Request
from numpy.typing import NDArray

from benchmarks.peers.servers.scripts.wav import Clip, decode

Embed = Callable[[Clip], NDArray[np.float32]]  # -> [frames, hidden]


def serve(embed: Embed, port: int) -> None:
    """Answer POST /encode at 127.0.0.1 with the mean of what `embed` returns, until the process is told to end."""
    app = FastAPI()
    computing = ThreadPoolExecutor(max_workers=1)

    def compute(body: bytes) -> dict[str, Any]:
        clip = decode(body)
        return {"embedding": embed(clip).mean(0).tolist(), "samples": len(clip), "longest": len(clip)}

    @app.post("/encode")
    async def encode(request: Request) -> Any:
        return await asyncio.get_running_loop().run_in_executor(computing, compute, await request.body())

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
