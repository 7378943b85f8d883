"""A process that stands in for server.audio.child: its answer is the file that it is given, whatever that is."""

import os
import socket
import sys

from server.audio.protocol import MAX_MESSAGE, READY, TAKEN, Job


def main() -> None:
    """Answer until the server closes the socket."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.send(READY)
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, MAX_MESSAGE, 2)
        if not message:
            return
        connection.send(TAKEN)
        connection.send(os.pread(descriptors[0], Job.from_bytes(message).size, 0))
