"""The options of the servers."""

from __future__ import annotations

import argparse


def parser(description: str | None, model: str, what: str) -> argparse.ArgumentParser:
    """Return a parser with what every server is told; `model` is the flag that says what it runs, in words `what`."""
    found = argparse.ArgumentParser(description=description, allow_abbrev=False)
    found.add_argument(model, required=True, help=what)
    found.add_argument("--port", type=int, required=True, help="to listen on, at 127.0.0.1")
    found.add_argument("--threads", type=int, default=1, help="inside one operation")
    return found
