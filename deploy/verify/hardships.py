"""What an operator gets wrong, and what the containers say then."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import httpx

from deploy.verify.images import Builder
from deploy.verify.serving import noise
from deploy.verify.shell import ROOT, VerificationError, check, run, until
from deploy.verify.stack import free_ports

SERVER = "localhost/sonant:cpu"
EXPORT = "localhost/sonant:export"
NAME = "sonant-verify-alone"
ENGINES = f"--volume={ROOT / 'demo' / 'engines'}:/models:ro"
CHECKPOINTS = f"--volume={ROOT / 'demo' / 'checkpoints'}:/checkpoints:ro"
LOCKED = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges")
START_SECONDS = 60
SPOOL_BYTES = 4 * 2**20
# More than that, and more than is kept in memory.
UPLOAD_SECONDS = 300
# By name: what is taken from the base image.
WRONG_BASES = {"no-python": "rm -f /usr/bin/python3*", "no-pip": "rm -rf /usr/lib/python3/dist-packages/pip"}
SIGNALS_AFTER = (0.0, 0.2, 0.5, 1.0, 2.0)


def wrong_base(builder: Builder) -> str:
    """Build on an image without Python, and on one whose Python is not complete."""
    said = []
    for name, instruction in (
        ("no-python", "rm -f /usr/bin/python3*"),
        ("no-pip", "rm -rf /usr/lib/python3/dist-packages/pip"),
    ):
        image = f"localhost/sonant:{name}"
        options = ("--format", "docker", "--isolation", "chroot", "--tag", image)
        run(["podman", "build", *options, "-"], text=f"FROM {builder.base}\nRUN {instruction}\n")
        line = line_with(f"{image} has ", builder.refusal(image))
        run(["podman", "image", "rm", image])
        said.append(line)
    return "; ".join(said)


def empty_models(folder: Path) -> str:
    """Serve an empty folder of models: it runs, is not ready, and says what it lacks."""
    empty = folder / "empty"
    empty.mkdir()
    with Alone(f"--volume={empty}:/models:ro") as server:
        server.answers("/health/live", 200)
        server.answers("/health/ready", 503)
        return str(json.loads(line_with("no engines", server.logs()))["message"])


def models_of_root(folder: Path) -> str:
    """Export into a folder that belongs to root."""
    mine = folder / "of-root"
    mine.mkdir(mode=0o755)
    return refused([*LOCKED, CHECKPOINTS, f"--volume={mine}:/models", EXPORT, "/checkpoints/hubert-ctc-english"])


def read_only_models() -> str:
    """Export into a folder that is mounted read-only."""
    return refused([*LOCKED, CHECKPOINTS, ENGINES, EXPORT, "/checkpoints/hubert-ctc-english", "--output", "/models/x"])


def missing_secret() -> str:
    """Serve with a configuration that is not there."""
    return refused([*LOCKED, ENGINES, "--env=SONANT_CONFIG=/run/secrets/sonant.toml", SERVER])


def unreadable_secret(folder: Path) -> str:
    """Serve with a configuration that only root may read."""
    secret = folder / "of-root.toml"
    secret.write_text("")
    secret.chmod(0o600)
    mount = f"--volume={secret}:/run/secrets/sonant.toml:ro"
    return refused([*LOCKED, ENGINES, mount, "--env=SONANT_CONFIG=/run/secrets/sonant.toml", SERVER])


def unwritable_spool(folder: Path) -> str:
    """Serve with a spool that belongs to root."""
    mine = folder / "spool-of-root"
    mine.mkdir(mode=0o755)
    return refused([*LOCKED, ENGINES, f"--volume={mine}:/spool", SERVER])


def full_spool(folder: Path) -> str:
    """Send more than the spool's disk holds: that request is refused, and the next one answered."""
    small = folder / "small"
    small.mkdir()
    run(["mount", "-t", "tmpfs", "-o", f"size={SPOOL_BYTES},uid=10001,gid=10001", "tmpfs", small])
    try:
        with Alone(ENGINES, f"--volume={small}:/spool") as server:
            return _overflow(server)
    finally:
        run(["umount", small])


def _overflow(server: Alone) -> str:
    server.answers("/health/ready", 200)
    form = {"model": "hubert-ctc-english", "pooling": "mean"}
    answer = server.client.post("/v1/encode", files={"file": noise(UPLOAD_SECONDS)}, data=form)
    check(answer.status_code == 507, f"it answers {answer.status_code}: {answer.text[:200]}")
    again = server.client.post("/v1/encode", files={"file": noise(1)}, data=form).status_code
    check(again == 200, f"the next request is answered {again}")
    return f"{answer.status_code}: {answer.json()['error']['message']}; the next request: {again}"


def signal_while_starting() -> str:
    """Send SIGTERM from the moment on that the server hears it until the engines are there; each ends it with 0.

    Before that moment process 1 is a Python that starts, and the kernel keeps from it what it has no handler for.
    """
    deaf, ends = [], []
    for after in SIGNALS_AFTER:
        with Alone(ENGINES) as server:
            deaf.append(until(server.hears, START_SECONDS, "the server handles SIGTERM"))
            time.sleep(after)
            server.signal(signal.SIGTERM)
            ends.append(until(lambda: server.status() is not None, START_SECONDS, f"SIGTERM after {after} s ends it"))
            check(server.status() == 0, f"SIGTERM after {after} s: it ended with {server.status()}")
    moments = ", ".join(f"{after:g}" for after in SIGNALS_AFTER)
    return f"heard from {max(deaf):.1f} s on; {moments} s later: ended with 0 within {max(ends):.1f} s"


class Alone:
    """A server without compose, as the hardening of docker-compose.yml has it, at a port of its own."""

    def __init__(self, *options: str) -> None:
        [port] = free_ports(1)
        self._command = [
            *("podman", "run", "--detach", "--name", NAME, f"--publish=127.0.0.1:{port}:8000", *LOCKED),
            *(*options, SERVER),
        ]
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=START_SECONDS)

    def __enter__(self) -> Alone:
        """Start it."""
        run(["podman", "rm", "--force", "--time", "0", NAME], ok=False)
        run(self._command)
        return self

    def __exit__(self, *_: object) -> None:
        """Remove it."""
        self.client.close()
        run(["podman", "rm", "--force", "--time", "0", "--volumes", NAME])

    def answers(self, path: str, status: int) -> None:
        """Wait until `path` is answered so."""

        def does() -> bool:
            check(self.status() is None, f"the server ended:\n{self.logs()}")
            with suppress(httpx.TransportError):
                return self.client.get(path).status_code == status
            return False

        until(does, START_SECONDS, f"{path} is answered {status}")

    def logs(self) -> str:
        """Return what it has printed."""
        return run(["podman", "logs", NAME]).stdout

    def hears(self) -> bool:
        """Whether its process 1 has a handler for SIGTERM; bit n of the mask is for signal n + 1."""
        pid = run(["podman", "inspect", "--format", "{{.State.Pid}}", NAME]).stdout.strip()
        status = Path("/proc", pid, "status").read_text()
        caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
        return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)

    def signal(self, number: int) -> None:
        """Send a signal to its process 1."""
        run(["podman", "kill", f"--signal={number}", NAME])

    def status(self) -> int | None:
        """Return the status that it ended with; None while it runs."""
        [found] = json.loads(run(["podman", "inspect", NAME]).stdout)
        return None if found["State"]["Running"] else int(found["State"]["ExitCode"])


def refused(words: Sequence[str]) -> str:
    """Return the last line of a container that is to fail at once."""
    done = run(["podman", "run", "--rm", *words], ok=False, seconds=START_SECONDS)
    check(done.returncode, f"it went well:\n{done.stdout}")
    check("Traceback" not in done.stdout, f"it ended with a traceback:\n{done.stdout}")
    return line_with("sonant: ", done.stdout)


def line_with(part: str, text: str) -> str:
    """Return the last line of `text` that has `part`."""
    found = [line.strip() for line in text.splitlines() if part in line and line.strip()]
    if not found:
        raise VerificationError(f"no line has {part!r}:\n{text}")
    return found[-1]
