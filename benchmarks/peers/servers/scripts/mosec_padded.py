"""mosec and transformers, with batches that are padded to their longest clip."""

from __future__ import annotations

import os
from typing import Any

from mosec import Server, Worker

from benchmarks.peers.servers.scripts import options
from benchmarks.peers.servers.scripts.encoder import Encoder
from benchmarks.peers.servers.scripts.wav import Clip, decode

TIMEOUT_SECONDS = 600  # who waits too long is the client's to say
CHECKPOINT, THREADS = "ENCODER_CHECKPOINT", "ENCODER_THREADS"  # what the worker, a process of its own, is told


class Embeddings(Worker):  # type: ignore[misc]  # it has no types
    """The process that computes."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder(os.environ[CHECKPOINT], int(os.environ[THREADS]))

    def deserialize(self, data: bytes) -> Clip:
        """Return the clip in a body."""
        return decode(data)

    def forward(self, data: list[Clip]) -> list[dict[str, Any]]:
        """Encode a batch."""
        return self.encoder.padded(data)


if __name__ == "__main__":
    parser = options.parser(__doc__, "--checkpoint", "its folder")
    # A size as in LitServe's documentation, for mosec's names none; the wait is mosec's default.
    parser.add_argument("--batch", type=int, default=8, help="clips, at most")
    parser.add_argument("--wait", type=float, default=0.01, help="for a batch to fill, in seconds")
    arguments = parser.parse_args()
    os.environ |= {
        CHECKPOINT: arguments.checkpoint,
        THREADS: str(arguments.threads),
        "MOSEC_ADDRESS": "127.0.0.1",
        "MOSEC_PORT": str(arguments.port),
        "MOSEC_TIMEOUT": str(TIMEOUT_SECONDS * 1000),
        "MOSEC_LOG_LEVEL": "warning",
    }
    server = Server()
    server.append_worker(
        Embeddings, max_batch_size=arguments.batch, max_wait_time=round(arguments.wait * 1000), route="/encode"
    )
    server.run()
