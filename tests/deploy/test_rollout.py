"""deploy/rollout.sh, with a command in place of Docker's that plays the proxy: what it asks for, and in which order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
# Keeps in a folder what each server is to the proxy, and what was asked. A server that is started is up, and one that
# drains has no sessions left when it is asked again, but where the files `broken` and `stuck` say otherwise.
FAKE = """
import pathlib, re, sys
folder, words = pathlib.Path(sys.argv[1]), sys.argv[2:]
while words[:1] == ["--profile"]:
    words = words[2:]
state = lambda name: folder / name.removesuffix("-gpu")
with (folder / "asked").open("a") as asked:
    def note(text): asked.write(text + "\\n")
    if words[0] == "exec":
        said = re.search(r"echo '(.*)' \\|", words[-1])[1]
        if not (folder / "proxy").exists():
            sys.exit(1)
        if said == "show info":
            print("Uptime: 0d 0h00m01s")
        elif said.startswith("show stat"):
            for name in ("blue", "green"):
                sessions = (folder / f"{name}.sessions").read_text()
                print(f"servers,{name},0,0,{sessions},{',' * 12}{state(name).read_text()}")
            if "drain" in (folder / "asked").read_text() and not (folder / "stuck").exists():
                (folder / "blue.sessions").write_text("0")
        else:
            note(said)
    elif words[0] == "up":
        note(f"up {words[-1]}")
        if not (folder / "broken").exists():
            state(words[-1]).write_text("UP")
    elif words[0] == "stop":
        note(f"stop {words[-1]}")
        state(words[-1]).write_text("DOWN")
    else:
        note(words[0])
"""


@pytest.fixture
def proxy(tmp_path: Path) -> Path:
    for name, state, sessions in (("blue", "UP", "2"), ("green", "MAINT (resolution)", "0")):
        (tmp_path / name).write_text(state)
        (tmp_path / f"{name}.sessions").write_text(sessions)
    (tmp_path / "proxy").touch()
    (tmp_path / "fake.py").write_text(FAKE)
    return tmp_path


def rollout(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    given = {"COMPOSE": f"{sys.executable} -S {folder / 'fake.py'} {folder}", "READY_SECONDS": "2"}
    return subprocess.run(
        [ROOT / "deploy" / "rollout.sh"], env=os.environ | given | settings, capture_output=True, text=True, timeout=60
    )


def asked(folder: Path) -> list[str]:
    file = folder / "asked"
    lines = file.read_text().splitlines() if file.exists() else []
    file.unlink(missing_ok=True)
    return lines


@pytest.mark.parametrize(("device", "suffix"), [("cpu", ""), ("gpu", "-gpu")])
def test_the_new_one_serves_before_the_old_one_is_stopped(proxy: Path, device: str, suffix: str) -> None:
    done = rollout(proxy, DEVICE=device)
    assert done.returncode == 0, done.stderr
    assert asked(proxy) == [
        "set server servers/green state ready",
        f"up green{suffix}",
        "set server servers/blue state drain",
        f"stop blue{suffix}",
        "set server servers/blue state ready",
    ]
    assert f"green{suffix} serves" in done.stdout
    assert rollout(proxy, DEVICE=device).returncode == 0
    assert [line for line in asked(proxy) if " servers" not in line] == [f"up blue{suffix}", f"stop green{suffix}"]


def test_one_that_is_not_ready_in_time_changes_nothing(proxy: Path) -> None:
    (proxy / "broken").touch()
    done = rollout(proxy, READY_SECONDS="0")
    assert done.returncode == 1
    assert "blue serves as before" in done.stderr
    assert asked(proxy) == ["set server servers/green state ready", "up green", "logs", "stop green"]
    assert (proxy / "blue").read_text() == "UP"


def test_what_does_not_end_in_time_is_said(proxy: Path) -> None:
    (proxy / "stuck").touch()
    done = rollout(proxy, DRAIN_SECONDS="0")
    assert done.returncode == 0
    assert "blue still has 2 requests" in done.stdout


def test_two_that_serve_are_not_chosen_between(proxy: Path) -> None:
    (proxy / "green").write_text("UP")
    done = rollout(proxy)
    assert (done.returncode, asked(proxy)) == (1, [])
    assert "both serve" in done.stderr


def test_without_a_proxy_it_says_how_to_start_one(proxy: Path) -> None:
    (proxy / "proxy").unlink()
    done = rollout(proxy)
    assert (done.returncode, asked(proxy)) == (1, [])
    assert "--profile rolling up -d" in done.stderr


def test_another_device_is_refused(proxy: Path) -> None:
    done = rollout(proxy, DEVICE="tpu")
    assert (done.returncode, asked(proxy)) == (2, [])
    assert "cpu or gpu" in done.stderr
