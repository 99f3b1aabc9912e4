"""Ports for servers that come and go."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from functools import cache

PORTS = range(20_000, 32_000)  # below those that the system gives where any will do
BLOCK = 100


def free_port() -> int:
    """Return a port that nobody has; no other call returns it, though it be bound, left and bound again."""
    return next(_ports(os.getpid()))


@cache
def _ports(_process: int) -> Iterator[int]:
    """Give the ports of one process, which a fork does not share."""
    return _claimed()


def _claimed() -> Iterator[int]:
    """Go through blocks of ports; a UDP socket at the first port claims a block until this process ends."""
    claims: list[socket.socket] = []
    for first in random.sample(PORTS[::BLOCK], len(PORTS) // BLOCK):
        claim = socket.socket(type=socket.SOCK_DGRAM)
        claims.append(claim)
        if _bound(claim, first):
            yield from filter(_is_free, range(first, first + BLOCK))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return _bound(probe, port)


def _bound(place: socket.socket, port: int) -> bool:
    try:
        place.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True
