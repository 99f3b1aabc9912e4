"""Ports for servers that come and go."""

from __future__ import annotations

import random
import socket


def free_port() -> int:
    """Return a port that nobody has, nor is given by the system before it is bound, or bound again."""
    while True:
        port = random.randrange(20_000, 32_000)  # below those that are given to whoever asks for any
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
