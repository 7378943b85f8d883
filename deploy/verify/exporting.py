"""The `export` profile: a checkpoint becomes an engine in the volume of models, which a server with keys serves."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from deploy.verify.serving import transcription
from deploy.verify.shell import check, run
from deploy.verify.stack import Stack

CHECKPOINT = "hubert-ctc-english"
EXPORT_SECONDS = 900
KEY = re.compile(r"for (clients|management) +(sonant_\S+)")


@dataclass(frozen=True)
class Keys:
    """What deploy/secrets.sh printed, and where it put the files."""

    folder: Path
    client: str
    admin: str


def secrets(folder: Path) -> Keys:
    """Make secrets as an operator would."""
    command = ["deploy/secrets.sh", str(folder / "secrets")]
    environment = {"ENV_FILE": str(folder / "secrets.env")}
    found = dict(KEY.findall(run(command, environment=environment).stdout))
    check(set(found) == {"clients", "management"}, "deploy/secrets.sh printed no keys")
    again = run(command, environment=environment).stdout
    check("kept" in again and not KEY.search(again), "deploy/secrets.sh does not keep what is there")
    return Keys(folder / "secrets", found["clients"], found["management"])


def exports(stack: Stack) -> str:
    """Export a checkpoint of the demo; a second time is refused."""
    checkpoint = f"/checkpoints/{CHECKPOINT}"
    done = stack.compose("run", "--rm", "export", checkpoint, seconds=EXPORT_SECONDS)
    check(f"Wrote models/{CHECKPOINT}" in done.stdout, f"the export said:\n{done.stdout}")
    again = stack.compose("run", "--rm", "export", checkpoint, seconds=EXPORT_SECONDS, ok=False)
    check(again.returncode and "--force" in again.stdout, f"the second export said:\n{again.stdout}")
    return f"{checkpoint} became models/{CHECKPOINT}; a second time: {last_line(again.stdout)}"


def serves_the_export(stack: Stack, keys: Keys) -> str:
    """Serve what was exported: nothing without a key, and the recording with one."""
    stack.up("server")
    seconds = stack.ready()
    with stack.client() as client:
        for path in ("/v1/models", "/metrics"):
            check(client.get(path).status_code == 401, f"{path} is open")
    with stack.client(keys.admin) as client:
        name = f"/v1/models/{CHECKPOINT}"
        check(client.post(f"{name}/load").status_code == 200, "a model cannot be loaded anew with the admin's key")
    with stack.client(keys.client) as client:
        return f"ready after {seconds:.1f} s; 401 without a key, with it: {transcription(client)}"


def last_line(text: str) -> str:
    """Return the last line of `text`."""
    return (text.strip().splitlines() or [""])[-1]
