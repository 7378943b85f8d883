"""Ray Serve and transformers, with batches that are padded to their longest clip."""

from __future__ import annotations

import signal
import sys
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.peers.servers.scripts import options
from benchmarks.peers.servers.scripts.encoder import Encoder
from benchmarks.peers.servers.scripts.wav import Clip, decode

STORE_BYTES = 256 * 2**20  # of shared memory: a batch of clips has a few MB
WAITING = 1000  # requests that the replica is sent at one time; of the default, 5, no larger batch could form


def application(checkpoint: str, threads: int, batch: int, wait: float) -> Any:
    """Return what is deployed."""

    class Embeddings:
        def __init__(self) -> None:
            self.encoder = Encoder(checkpoint, threads)

        @serve.batch(max_batch_size=batch, batch_wait_timeout_s=wait)  # type: ignore[untyped-decorator]
        async def encode(self, clips: list[Clip]) -> list[dict[str, Any]]:
            return self.encoder.padded(clips)

        async def __call__(self, request: Request) -> Any:
            return await self.encode(decode(await request.body()))

    return serve.deployment(max_ongoing_requests=WAITING, ray_actor_options={"num_cpus": 1})(Embeddings).bind()


if __name__ == "__main__":
    parser = options.parser(__doc__, "--checkpoint", "its folder")
    # Both are the defaults of Ray Serve.
    parser.add_argument("--batch", type=int, default=10, help="clips, at most")
    parser.add_argument("--wait", type=float, default=0.01, help="for a batch to fill, in seconds")
    arguments = parser.parse_args()
    ray.init(include_dashboard=False, object_store_memory=STORE_BYTES, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": arguments.port})
    made = application(arguments.checkpoint, arguments.threads, arguments.batch, arguments.wait)
    serve.run(made, route_prefix="/encode")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        signal.pause()
    finally:
        serve.shutdown()
        ray.shutdown()
