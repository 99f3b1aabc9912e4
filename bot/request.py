"""What comes in from a person, whatever the platform."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Platform(StrEnum):
    """Where a request comes from."""

    LOCAL = "local"
    TELEGRAM = "telegram"
    SLACK = "slack"


@dataclass(frozen=True, slots=True)
class Sender:
    """Who asks, and where: ids as the platform gives them, and the name to show."""

    platform: Platform
    user: str
    place: str
    name: str


HERE = Sender(Platform.LOCAL, user="", place="", name="")
"""Whoever can open the bot's socket on this machine."""


@dataclass(frozen=True, slots=True)
class Request:
    """A command as typed, or as the button that was pressed means.

    `key` is the same whenever the platform delivers the same request again, and never otherwise; `sent_at` is
    in seconds since the epoch; `message_id` is the message that asks, or whose button was pressed.
    """

    sender: Sender
    text: str
    key: str
    sent_at: float
    message_id: str = ""
