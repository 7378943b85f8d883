"""Commands, and what is said when one fails."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
# The last lines of a command that failed.
SHOWN_LINES = 25
POLL_SECONDS = 0.25
# What moves a cursor, or colours.
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
# What podman prints where nobody runs systemd or syslog, whatever it does.
NOISE = ("failed to connect to syslog", "unable to get systemd connection")


class VerificationError(RuntimeError):
    """Something is not as it is said to be; the message says what, and what to look at."""


def run(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    seconds: float = 120,
    log: Path | None = None,
    ok: bool = True,
    text: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `command` in the checkout, its output kept, and in `log` if there is one.

    `text` is its input. Raises VerificationError where it takes longer than `seconds`, or, if it is to be `ok`, fails.
    """
    words = [str(word) for word in command]
    shown = " ".join(words[:4])
    try:
        done = subprocess.run(
            words,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            input=text if text is not None else "",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError:
        raise VerificationError(f"{words[0]} is not installed") from None
    except subprocess.TimeoutExpired as expired:
        raise VerificationError(f"`{shown} ...` took longer than {seconds:.0f} s:\n{_tail(expired.stdout)}") from None
    lines = CONTROL.sub("", done.stdout).splitlines()
    done.stdout = "\n".join(line for line in lines if not any(noise in line for noise in NOISE))
    if log is not None:
        log.write_text(done.stdout)
    if ok and done.returncode:
        raise VerificationError(f"`{shown} ...` ended with {done.returncode}:\n{_tail(done.stdout)}")
    return done


def check(condition: object, what: str) -> None:
    """Raise VerificationError that says `what` is not so."""
    if not condition:
        raise VerificationError(what)


def until(condition: Callable[[], object], seconds: float, what: str) -> float:
    """Wait for `condition`, and return how long; raise VerificationError where `what` does not happen in `seconds`."""
    start = time.monotonic()
    while not condition():
        check(time.monotonic() - start < seconds, f"within {seconds:.0f} s it did not happen that {what}")
        time.sleep(POLL_SECONDS)
    return time.monotonic() - start


def _tail(output: str | bytes | None) -> str:
    text = output.decode(errors="replace") if isinstance(output, bytes) else output or ""
    return "\n".join(text.splitlines()[-SHOWN_LINES:])
