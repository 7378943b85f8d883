"""What the server and a process that decodes say to each other: JSON over a socket that keeps messages apart.

    server -> process   Job, with two descriptors: of the file, and of a room for samples; answered by TAKEN
    process -> server   {"samples": n, "is_last": false}, the next n samples are in the room; answered by GO_ON once
                        there is room again, or by REFUSED; a process that is refused drops the job
    process -> server   {"samples": n, "is_last": true}, or {"code": ..., "message": ...}, the error

A process says READY once it has started. One that ends before it says TAKEN was not ended by the file. Nothing of what
it says is trusted, and nothing is pickled.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from server.audio.decode import Bounds

READY, TAKEN, GO_ON, REFUSED = b"ready", b"taken", b"go on", b"refused"
# Of one message in bytes. The longest tells of an error.
MAX_MESSAGE = 4096
MAX_ERROR_LETTERS = 500  # each is at most 6 bytes of JSON
# In the room: 1 MiB, 16 s of audio at 16 kHz. Handing it over costs about 0.1 ms beside the copy.
ROOM_SAMPLES = 1 << 18


@dataclass(frozen=True)
class Job:
    """One file: what its clip must be, where it begins, its bytes, and the seconds that decoding may take at most."""

    bounds: Bounds
    start: int
    size: int
    seconds: float

    def to_bytes(self) -> bytes:
        """Return the message."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, message: bytes) -> Job:
        """Read the message."""
        fields = json.loads(message)
        return cls(**fields | {"bounds": Bounds(**fields["bounds"])})
