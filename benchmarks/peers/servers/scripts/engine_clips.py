"""An engine of ours behind FastAPI, clip by clip: by this is measured what the server makes of the same engine."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.scripts.sonant_engine import SonantEngine
from benchmarks.peers.servers.scripts import clips, options

if __name__ == "__main__":
    parser = options.parser(__doc__, "--engine", "its folder")
    parser.add_argument("--form", required=True, help="RUNTIME/PRECISION")
    arguments = parser.parse_args()
    clips.serve(SonantEngine(Path(arguments.engine), arguments.form, arguments.threads).alone, arguments.port)
