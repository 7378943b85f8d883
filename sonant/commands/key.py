"""`sonant key`: a new key for clients of the server."""

from __future__ import annotations

import argparse
import hashlib
import secrets

from sonant.commands.parsing import Commands

# 256 random bits: nobody guesses them, so that a plain hash is enough in the configuration.
KEY_BYTES = 32


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("key", help="make a key for clients of the server, and its hash for the configuration")
    parser.set_defaults(run=_run, needs="")


def _run(_: argparse.Namespace) -> int:
    key = f"sonant_{secrets.token_urlsafe(KEY_BYTES)}"
    print(f"key     {key}")
    print(f"sha256  {hashlib.sha256(key.encode()).hexdigest()}")
    return 0
