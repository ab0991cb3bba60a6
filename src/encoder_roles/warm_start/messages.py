"""Messages between a job and the parent: one JSON object behind its length, with file descriptors."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from typing import Any

LENGTH = 4  # bytes that hold a message's length
STREAMS = 3  # file descriptors a job hands over: stdin, stdout and stderr


def send(connection: socket.socket, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Send one message. Raises OSError if nobody can receive it."""
    body = json.dumps(message).encode()
    data = len(body).to_bytes(LENGTH, "big") + body
    sent = socket.send_fds(connection, [data], list(descriptors)) if descriptors else 0
    connection.sendall(data[sent:])


def receive(connection: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """One message and its file descriptors; None at the end of the connection.

    Raises OSError, TimeoutError among them, if the connection breaks.
    """
    data, descriptors, _, _ = socket.recv_fds(connection, LENGTH, STREAMS)
    size = int.from_bytes(data, "big") if len(data) == LENGTH else None
    body = bytearray()
    while size is not None and len(body) < size:
        part = connection.recv(size - len(body))
        if not part:
            return None, descriptors
        body += part
    return (None if size is None else json.loads(body)), descriptors
