"""What all front ends have in common."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FrontHealth:
    """Whether the platform is reached, when it last gave a sign of life, and what is wrong if anything is.

    `last_seen` is in seconds since the epoch, None before the first sign.
    """

    connected: bool
    last_seen: float | None
    error: str
