"""Whether the server in this container is ready; what `docker ps` shows as healthy.

Sockets and nothing else: it is started every few seconds, and an HTTP client takes longer to import than to ask.
"""

import os
import socket
import sys

TIMEOUT_SECONDS = 4.0
REQUEST = b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
MAX_BYTES = 64 * 1024  # of an answer, of which the last part names the models


def main() -> int:
    """Print what the server answers; return 0 if it is ready, else 1."""
    port = int(os.environ.get("SONANT_PORT", "8000"))
    try:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) as connection:
            connection.settimeout(TIMEOUT_SECONDS)
            connection.sendall(REQUEST)
            with connection.makefile("rb") as file:
                answer = file.read(MAX_BYTES)
    except OSError as error:
        print(f"nobody answers at port {port}: {error}")
        return 1
    print(answer.rpartition(b"\r\n\r\n")[2].decode(errors="replace"))
    return 0 if answer.split(None, 2)[1:2] == [b"200"] else 1


if __name__ == "__main__":
    sys.exit(main())
