"""Whether an image can be what Sonant's are built on; run while they are built, by its own Python."""

import importlib.util
import platform
import sys

OLDEST, NEWEST = (3, 11), (3, 13)
SUCH_AS = "such as python:3.11-slim-bookworm"


def wrong() -> str | None:
    """Return what is wrong with the image; None if nothing is."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        return f"has Python {platform.python_version()}, and Sonant needs 3.{OLDEST[1]} to 3.{NEWEST[1]}"
    if platform.libc_ver()[0] != "glibc":
        return "has no glibc, for which the runtimes are built"
    missing = [name for name in ("pip", "venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        return f"has a Python without {' and '.join(missing)}"
    return None


def main() -> int:
    """Say what is wrong with the image that the command line names; return the exit status."""
    reason = wrong()
    if reason is None:
        return 0
    print(f"{sys.argv[1]} {reason}: name another BASE_IMAGE, {SUCH_AS}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
