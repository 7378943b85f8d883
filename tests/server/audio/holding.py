"""What decoded clips are taken from, without a server."""

import math
import tempfile
from pathlib import Path

from server.audio.clips import Clips
from server.spool import Spool


def clips(max_bytes: float = math.inf, spool_bytes: float = math.inf) -> Clips:
    """Return room for clips in memory and on the disk."""
    return Clips(max_bytes, Spool(Path(tempfile.gettempdir()), spool_bytes))
