"""What an operator can set: arguments of `Settings`, or the environment (`SONANT_PORT=8080`)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from engines.manifest import Task
from engines.runtimes import Device

PREFIX = "SONANT_"


class Settings(BaseSettings):
    """The server's configuration. Unknown names are refused, also in the environment."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    models: Path = Path("models")  # the folder of engines
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    device: Device = "auto"
    threads: NonNegativeInt = 0  # inside one operation of an engine; 0: as the runtime chooses
    defaults: dict[Task, str] = {}  # the model of a task where a request names none

    max_body_bytes: PositiveInt = 64 * 1024 * 1024
    body_timeout: PositiveFloat = 60.0  # seconds from the first to the last byte of a body
    max_clips: PositiveInt = 32  # in one request
    max_clip_seconds: PositiveFloat = 600.0  # whatever an engine takes
    decode_threads: PositiveInt = 2  # they decode audio and encode answers

    timeout: PositiveFloat = 60.0  # seconds from a request's body to its answer, where it does not say
    max_timeout: PositiveFloat = 600.0  # that a request may ask for
    watchdog_seconds: PositiveFloat = 120.0  # after which a call of an engine is taken to hang
    workers: NonNegativeInt = 0  # batches that one engine runs at a time; 0: as calibrated
    queue_seconds: PositiveFloat = 600.0  # audio that waits for one engine
    batch_seconds: PositiveFloat = 30.0  # longest x count of one batch; a longer clip runs alone
    max_padding: float = Field(0.1, ge=0, lt=1)  # share of a batch that is padding
    max_tokens: PositiveInt = 448  # that are written about one clip, whatever a request or a checkpoint asks for
    max_beams: PositiveInt = 16  # of one clip
    live_beams: PositiveInt = 64  # of all clips that one engine writes about at one time: each has a cache of its own
    shutdown_seconds: PositiveInt = 30  # for the requests that were admitted before SIGTERM

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_variables(cls, values: Any) -> Any:
        # pydantic-settings reads the variables that it knows and passes over a misspelt one in silence.
        known = {PREFIX + name.upper() for name in cls.model_fields}
        unknown = sorted(name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known)
        if unknown:
            raise ValueError(f"unknown settings in the environment: {', '.join(unknown)}")
        return values
