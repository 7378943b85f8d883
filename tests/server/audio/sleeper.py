"""A process that stands in for server.audio.child, and never gets ready."""

import time


def main() -> None:
    """Wait to be killed."""
    time.sleep(600)
