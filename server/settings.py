"""What an operator can set: flags of `sonant serve`, the environment (`SONANT_PORT=8080`), a TOML file, in that order.

The string under a setting is its description wherever one is shown: `--help`, `--print-config`, SETTINGS.md.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tempfile
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from engines import files
from engines.manifest import Precision, RuntimeName, Task
from engines.runtimes import EXACT, ConvSearch, Device, RuntimeOptions

PREFIX = "SONANT_"
# What a client of a server reads, in the same shell.
CLIENT_VARIABLES = {"SONANT_API_KEY"}
# Of the file: a thousand keys take 100 kB.
MAX_FILE_BYTES = 2**20
# Kubernetes tells each pod of the services around it in variables: those of a service that is called sonant look as if
# they were ours. SONANT_PORT is one, or the port to listen on: the value tells.
SERVICE_VARIABLE = re.compile(PREFIX + r"(.+_)?(SERVICE_(HOST|PORT(_.*)?)|PORT_\d+_(TCP|UDP|SCTP)(_.*)?)")
SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://")

# The name of a key stands in log lines. A key itself is refused here: only its hash belongs into a configuration.
KeyName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
KeyHash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


def _check_network(text: str) -> str:
    """Return `text` if it is an address, a network or *; uvicorn would take anything else for the name of a socket."""
    if text != "*":
        ipaddress.ip_network(text)
    return text


Network = Annotated[str, AfterValidator(_check_network)]
# An error is relative: a graph that is off by all that there is answers nothing.
Error = Annotated[float, Field(gt=0, le=1)]


def default_cache() -> Path:
    """Return Sonant's folder in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sonant"


def default_spool() -> Path:
    """Return the system's directory for temporary files. Raises ValueError where there is none."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        raise ValueError("spool must be set: there is no directory for temporary files") from None


class Settings(BaseSettings):
    """The server's configuration. Unknown names are refused, also in the environment and in the file."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,  # it may be a key that was given in place of its hash
    )

    config: Path | None = None
    """A TOML file with settings; what it says holds where neither a flag nor the environment says otherwise."""

    models: Path = Path("models")
    """The folder of engines."""
    host: str = "127.0.0.1"
    """The address to listen on; 0.0.0.0 is all interfaces."""
    port: int = Field(8000, ge=0, le=65535)
    """The port to listen on."""
    device: Device = "auto"
    """What engines run on: auto, cpu or cuda."""
    device_ids: tuple[NonNegativeInt, ...] = ()
    """Which GPUs, of those that the process sees; each has a copy of every engine. Unset: the first."""
    device_bytes: NonNegativeInt = 0
    """Memory of the GPU that each graph may take beside its weights, in bytes; 0: all that is free."""
    conv_search: ConvSearch = "auto"
    """How ONNX Runtime finds convolutions on a GPU: auto (as calibrated), heuristic, default (none) or exhaustive."""
    cuda_graphs: bool = False
    """Whether ONNX Runtime records encoders on a GPU, shape by shape, and plays that back: less between kernels."""
    runtime: Literal["auto", RuntimeName] = "auto"
    """What runs them: auto (what is fastest on this host, as calibrated), onnxruntime, openvino or tensorrt."""
    precision: Literal["auto", Precision] = "auto"
    """What they compute in: auto (what is fastest within max_error), or fp32, fp16, bf16 or int8 whatever its error."""
    max_error: Error = EXACT
    """The largest error at which auto may choose a form, as a share of an output's largest value; 1e-4 is only fp32."""
    model_errors: dict[str, Error] = {}
    """By model: a max_error of its own."""
    threads: NonNegativeInt = 0
    """Threads inside one operation of an engine; 0: as calibrated, until then all physical cores but one."""
    defaults: dict[Task, str] = {}
    """The model of a task where a request names none."""
    openai_models: dict[str, str] = {}
    """Models by other names for /v1/audio, such as whisper-1, for programs that ask for no other."""

    api_keys: dict[KeyName, KeyHash] = {}
    """Keys for everything but /health, /docs, /metrics and management: name and SHA-256 in hex; none: open to all."""
    metrics_keys: dict[KeyName, KeyHash] = {}
    """Keys for /metrics, which is open only where there are no keys of any kind."""
    admin_keys: dict[KeyName, KeyHash] = {}
    """Keys for everything, also to load and unload models; without keys of any kind, that is open on loopback only."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may call the server from a browser, such as https://app.example.org; * is any."""
    trusted_proxies: tuple[Network, ...] = ()
    """Addresses or networks of proxies whose X-Forwarded-For says who the client is, such as 10.0.0.0/8; * is all."""

    log_format: Literal["auto", "text", "json"] = "auto"
    """Lines to read, or one JSON object per line; auto: text where standard error is a terminal."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What is logged; debug has also the requests to /health and /metrics."""

    max_connections: PositiveInt = 512
    """Connections at one time: each takes a file descriptor, and some more while it uploads what is large."""
    header_timeout: PositiveFloat = 10.0
    """Seconds for the head of a request."""
    send_timeout: PositiveFloat = 30.0
    """Seconds after which a client that reads nothing of its answer is cut off."""
    max_body_bytes: PositiveInt = 4 * 3600 * 48_000 * 2 + 2 * 1024 * 1024
    """The largest form or body of audio, in bytes: 4 hours x 48 kHz x 2 bytes, and 2 MiB for what stands around it."""
    max_json_bytes: PositiveInt = 64 * 1024 * 1024
    """The largest body of any other kind, such as JSON, in bytes: it is read in memory."""
    body_timeout: PositiveFloat = 60.0
    """Seconds in which a body must arrive, beside those that body_rate allows; also the longest pause in it."""
    body_rate: PositiveInt = 256 * 1024
    """Bytes for which a body may take a second more: who sends more slowly for longer than body_timeout is cut off."""
    spool: Path = Field(default_factory=default_spool)
    """The directory for what is too large for memory: on a disk, for a tmpfs is memory; unset: TMPDIR, else /tmp."""
    spool_bytes: PositiveInt = 16 * 1024 * 1024 * 1024
    """Uploads and clips of all requests in that directory, in bytes; a clip of an hour at 16 kHz takes 230 MB."""
    max_clips: PositiveInt = 32
    """Clips in one request."""
    max_clip_seconds: PositiveFloat = 4 * 3600.0
    """The longest clip in seconds, whatever an engine takes."""
    decode_threads: PositiveInt = 2
    """Threads that decode audio."""
    answer_threads: PositiveInt = 2
    """Threads that read JSON and make answers."""
    decoders: NonNegativeInt = 0
    """Processes that decode audio, so that a file that crashes its decoder fails alone; 0: the threads do."""
    decode_timeout: PositiveFloat = 30.0
    """Seconds for which one file may be decoded, beside one for each 20 s of its audio."""
    decoded_bytes: PositiveInt = 1024 * 1024 * 1024
    """Decoded audio of all requests in memory, in bytes: 4 for each sample; clips of more than 8 MiB are in spool."""
    body_bytes_in_flight: PositiveInt = 512 * 1024 * 1024
    """Bodies of all requests in memory, in bytes; JSON takes up to three times that, files of more than 1 MiB none."""
    answer_bytes: PositiveInt = 1024 * 1024 * 1024
    """Answers of all requests in progress, with the arrays that they are made of, in bytes."""

    stream_seconds: PositiveFloat = 14_400.0
    """The longest stream in seconds, by its audio and by the clock."""
    stream_idle_seconds: PositiveFloat = 30.0
    """Seconds after which a stream is closed whose client sends no audio."""
    stream_bytes: PositiveInt = 1024 * 1024 * 1024
    """Audio of all streams that are open, in bytes: some 2 MB each."""

    timeout: PositiveFloat = 60.0
    """Seconds from a request's body to its answer, where it does not say."""
    max_timeout: PositiveFloat = 600.0
    """The largest timeout in seconds that a request may ask for."""
    watchdog_seconds: PositiveFloat = 120.0
    """Seconds after which a call of an engine is taken to hang."""
    workers: NonNegativeInt = 0
    """Batches that one engine runs at a time; 0: as calibrated, on each GPU."""
    queue_seconds: PositiveFloat = 600.0
    """Seconds of audio that are due for one engine and wait; the later windows of a long clip are not due yet."""
    batch_seconds: PositiveFloat | None = None
    """Longest x count of one batch, in seconds; a longer clip runs alone. Unset: as calibrated, else 30 (CPU: 10)."""
    batch_bytes: NonNegativeInt = 0
    """Memory that one batch may take, in bytes, as far as it can be foreseen; 0: a quarter of what is free."""
    calibrate: Literal["background", "off"] = "background"
    """Whether engines without a calibration for this host are measured while the server has nothing to do."""
    cache: Path = Field(default_factory=default_cache)
    """The folder for calibrations; unset: sonant in XDG_CACHE_HOME or ~/.cache."""
    max_padding: float = Field(0.1, ge=0, lt=1)
    """The share of a batch that may be padding."""
    max_tokens: PositiveInt = 448
    """Tokens that are written about one clip, whatever a request or a checkpoint asks for."""
    max_beams: PositiveInt = 16
    """Beams of one clip."""
    live_beams: PositiveInt | None = None
    """Beams, each with its own cache, of clips that an engine writes about at a time; unset: as calibrated, or 64."""
    live_seconds: PositiveFloat = 120.0
    """Seconds of audio of all clips that one engine writes about at one time."""
    shutdown_seconds: PositiveInt = 30
    """Seconds for the requests that were admitted before SIGTERM."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources, the first of which wins; tables are merged key by key."""
        environment = _Environment(settings_cls)
        file = init_settings().get("config") or environment().get("config")
        return init_settings, environment, InitSettingsSource(settings_cls, read_file(file) if file else {})

    def options(self, model: str) -> RuntimeOptions:
        """Return how the engine of `model` is to be run."""
        return RuntimeOptions(
            device=self.device,
            threads=self.threads,
            batch_bytes=self.batch_bytes,
            runtime=self.runtime,
            precision=self.precision,
            max_error=self.model_errors.get(model, self.max_error),
            device_id=self.device_ids[0] if self.device_ids else 0,
            device_bytes=self.device_bytes,
            device_ids=self.device_ids,
            conv_search=self.conv_search,
            cuda_graphs=self.cuda_graphs,
        )

    @model_validator(mode="after")
    def _refuse_bodies_that_never_fit(self) -> Self:
        if self.max_json_bytes > self.body_bytes_in_flight:
            raise ValueError("body_bytes_in_flight must be at least max_json_bytes")
        if self.max_body_bytes > self.spool_bytes:
            raise ValueError("spool_bytes must be at least max_body_bytes")
        return self

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_variables(cls, values: Any) -> Any:
        # pydantic-settings reads the variables that it knows and passes over a misspelt one in silence.
        known = [variable(name) for name in cls.model_fields]
        unknown = sorted(name for name in variables() if name.upper() not in known)
        if unknown:
            raise ValueError(
                f"unknown settings in the environment: {', '.join(unknown)}; there are: {', '.join(sorted(known))}"
            )
        return values


class _Environment(EnvSettingsSource):
    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the variable's value, unless the variable is about a service."""
        value, key, is_complex = super().get_field_value(field, field_name)
        return None if _is_of_a_service(variable(field_name), str(value)) else value, key, is_complex

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Parse the JSON of a table or list; raises ValueError with the variable's name."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{variable(field_name)}: must be JSON, a table or a list: {error}") from None


def variable(name: str) -> str:
    """Return the environment variable of the setting `name`."""
    return PREFIX + name.upper()


def variables() -> list[str]:
    """Return the variables of the environment that are meant for us."""
    named = (name for name in os.environ if name.upper().startswith(PREFIX))
    ours = (name for name in named if name.upper() not in CLIENT_VARIABLES)
    return [name for name in ours if not _is_of_a_service(name, os.environ[name])]


def passed_over() -> list[str]:
    """Return the variables of the environment that begin as ours, but are about a service."""
    return sorted(name for name, value in os.environ.items() if _is_of_a_service(name, value))


def _is_of_a_service(name: str, value: str) -> bool:
    name = name.upper()
    address = name.startswith(PREFIX) and name.endswith("PORT") and SERVICE_ADDRESS.match(value)
    return bool(address or SERVICE_VARIABLE.fullmatch(name))


def read_file(path: str | Path) -> dict[str, Any]:
    """Return what the TOML file at `path` says; raises ValueError with the path."""
    try:
        values = tomllib.loads(files.read(Path(path), MAX_FILE_BYTES).decode())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from None
    if "config" in values:
        raise ValueError(f"{path}: config: a configuration cannot name another")
    return values
