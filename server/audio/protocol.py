"""What the server and a process that decodes say to each other: JSON over a socket that keeps messages apart.

    server -> process   Job, with two descriptors: the file's bytes, and room for the clip; answered by TAKEN
    process -> server   {"take": bytes}, answered by GRANTED or REFUSED; a process that is refused drops the job
    process -> server   {"samples": n}, the clip is in the room; or {"code": ..., "message": ...}, the AudioError

A process says READY once it has started. One that ends before it says TAKEN was not ended by the file. Nothing of what
it says is trusted, and nothing is pickled.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from server.audio.decode import Bounds

READY, TAKEN, GRANTED, REFUSED = b"ready", b"taken", b"granted", b"refused"
# Of one message in bytes. The longest tells of an error.
MAX_MESSAGE = 4096
MAX_ERROR_LETTERS = 500  # each is at most 6 bytes of JSON
# What a process asks for at one time, in bytes: each question costs about 0.1 ms. 16 s of audio at 16 kHz.
GRANT = 1 << 20


@dataclass(frozen=True)
class Job:
    """One file: what its clip must be, how many bytes the file has, and the seconds that decoding it may take."""

    bounds: Bounds
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
