"""deploy/secrets.sh, and that the server takes what it writes."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from pathlib import Path

from server.configuration import load

ROOT = Path(__file__).parent.parent.parent


def make(folder: Path, environment: Path) -> str:
    command = [ROOT / "deploy" / "secrets.sh", folder]
    done = subprocess.run(
        command, env=os.environ | {"ENV_FILE": str(environment)}, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout + done.stderr


def test_the_server_knows_the_keys_and_nobody_else_does(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    said = make(folder, tmp_path / ".env")
    settings = load({"config": str(folder / "sonant.toml")})
    [client, admin] = re.findall(r"for \w+ +(sonant_\S{43})", said)
    metrics = (folder / "metrics_key").read_text()
    hashes = {
        name: hashlib.sha256(key.encode()).hexdigest()
        for name, key in (("client", client), ("admin", admin), ("prometheus", metrics))
    }
    assert settings.api_keys == {"client": hashes["client"]}
    assert settings.admin_keys == {"admin": hashes["admin"]}
    assert settings.metrics_keys == {"prometheus": hashes["prometheus"]}
    assert metrics not in said
    assert not any(key in (folder / "sonant.toml").read_text() for key in (client, admin, metrics))
    assert len((folder / "grafana_password").read_text()) == 43
    assert (folder / "hf_token").read_text() == ""


def test_the_folder_is_closed_and_containers_read_the_files(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    make(folder, tmp_path / ".env")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    folder, environment = tmp_path / "secrets", tmp_path / ".env"
    make(folder, environment)
    before = {path.name: path.read_text() for path in folder.iterdir()}
    (folder / "hf_token").write_text("mine")
    assert "kept" in make(folder, environment)
    assert {path.name: path.read_text() for path in folder.iterdir()} == before | {"hf_token": "mine"}
    assert environment.read_text().count("SECRETS=") == 1


def test_the_environment_names_the_folder(tmp_path: Path) -> None:
    folder, environment = tmp_path / "secrets", tmp_path / ".env"
    environment.write_text("PORT=8001")  # without an end of the line
    make(folder, environment)
    assert environment.read_text() == f"PORT=8001\nSECRETS={folder}\n"
    assert "names other SECRETS" in make(tmp_path / "others", environment)
    assert environment.read_text() == f"PORT=8001\nSECRETS={folder}\n"
