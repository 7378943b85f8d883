"""The `cpu` profile: it answers, is locked in, and finishes what it has begun."""

from __future__ import annotations

import io
import time
import wave
from concurrent.futures import ThreadPoolExecutor

import httpx

from deploy.verify.shell import ROOT, check, until
from deploy.verify.stack import Stack

RECORDING = ROOT / "demo" / "audio" / "switch-lamp-garage.flac"
UID = "10001"
WRITABLE = {"/cache", "/spool"}
# File systems of the kernel's, and those that are memory.
NOT_ON_DISK = {"proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2"}
REFUSED = ("/x", "/opt/sonant/x", "/models/x", "/etc/x", "/run/secrets/x")
# Of noise at 16 kHz: long enough to be still at it when the signal comes.
LONG_SECONDS, RATE = 600, 16_000
GRACE_SECONDS = 60


def transcribes(stack: Stack) -> str:
    """Transcribe a recording of the demo; return its text."""
    with stack.client() as client:
        return transcription(client)


def transcription(client: httpx.Client, **options: str) -> str:
    """Return what the server hears in the recording; raise VerificationError if it is something else."""
    answer = client.post("/v1/transcribe", files={"file": RECORDING.read_bytes()}, data=options)
    check(answer.status_code == 200, f"/v1/transcribe answered {answer.status_code}: {answer.text}")
    text, expected = answer.json()["text"], RECORDING.with_suffix(".txt").read_text().strip()
    check(text == expected, f"the server heard {text!r}, and said was {expected!r}")
    return str(text)


def is_locked_in(stack: Stack) -> str:
    """Check the user, the capabilities, and where the server can write."""
    user = stack.inside("server", "id", "-u").stdout.strip()
    check(user == UID, f"the server runs as {user}")
    status = stack.inside("server", "cat", "/proc/1/status").stdout
    facts = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    check(int(facts["CapEff"], 16) == int(facts["CapBnd"], 16) == 0, f"it has capabilities: {facts['CapBnd']}")
    check(facts["NoNewPrivs"].strip() == "1", "it may get new privileges")
    check(facts["Name"].strip() == "sonant", f"process 1 is {facts['Name'].strip()}")
    for path in REFUSED:
        check(stack.inside("server", "touch", path, ok=False).returncode, f"{path} could be written")
    for folder in ("/cache", "/spool", "/tmp"):  # noqa: S108  # the container's own
        stack.inside("server", "touch", f"{folder}/x")
    mounts = [line.split() for line in stack.inside("server", "cat", "/proc/1/mounts").stdout.splitlines()]
    disks = {place for _, place, kind, flags, *_ in mounts if kind not in NOT_ON_DISK and "rw" in flags.split(",")}
    check(disks == WRITABLE, f"it can write in {sorted(disks)}")
    return f"uid {user}, no capabilities; of the disk only {' and '.join(sorted(disks))} can be written"


def drains(stack: Stack) -> str:
    """Stop the server while it works; check that it answers, and ends with 0."""
    with stack.client() as client, ThreadPoolExecutor(1) as pool:
        options = {"pooling": "mean", "model": "hubert-ctc-english", "timeout": "300"}
        answer = pool.submit(client.post, "/v1/encode", files={"file": noise(LONG_SECONDS)}, data=options)
        until(lambda: in_progress(stack) >= 1, GRACE_SECONDS, "a request is in progress")
        check(not answer.done(), "the request was over before the signal")
        start = time.monotonic()
        stack.compose("stop", "server")
        seconds = time.monotonic() - start
        status = answer.result().status_code
    check(status == 200, f"the request in progress was answered {status}: {answer.result().text}")
    check(stack.status("server") == 0, f"the server ended with {stack.status('server')}")
    return f"{LONG_SECONDS} s of audio in progress, answered 200; ended with 0 after {seconds:.1f} s"


def in_progress(stack: Stack) -> float:
    """Return how many requests for tasks the server has."""
    with stack.client() as client:
        lines = client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("sonant_requests_in_progress")) - 1


def noise(seconds: int) -> bytes:
    """Return a WAV file of something that is not silence."""
    file = io.BytesIO()
    with wave.open(file, "wb") as recording:
        recording.setparams((1, 2, RATE, 0, "NONE", ""))
        # A second of a hoarse hum, again and again.
        second = b"".join(
            ((n * n * 31 + n * 7919) % 8192 - 4096).to_bytes(2, "little", signed=True) for n in range(RATE)
        )
        recording.writeframes(second * seconds)
    return file.getvalue()
