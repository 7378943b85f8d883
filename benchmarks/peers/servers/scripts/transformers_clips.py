"""transformers behind FastAPI, clip by clip: one thread computes, as transformers' guide to web servers has it."""

from __future__ import annotations

from benchmarks.peers.servers.scripts import clips, options
from benchmarks.peers.servers.scripts.encoder import Encoder

if __name__ == "__main__":
    arguments = options.parser(__doc__, "--checkpoint", "its folder").parse_args()
    clips.serve(Encoder(arguments.checkpoint, arguments.threads).alone, arguments.port)
