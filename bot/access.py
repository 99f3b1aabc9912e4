"""Who may: allow lists of users and of places, and the role that a sender has by them. Default deny."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum


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


class Role(IntEnum):
    """What somebody may do; a higher one may do all that a lower one may."""

    VIEWER = 1  # ask
    OPERATOR = 2  # steer


@dataclass(frozen=True, slots=True)
class AllowList:
    """The ids of one platform that are let in, each with its role.

    A place without a role of its own (None) makes its members operators where it is a private chat, and
    viewers where it is a group: whoever is to steer from a group is listed as a user.
    """

    users: Mapping[str, Role] = field(default_factory=dict)
    places: Mapping[str, Role | None] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Say whether nobody was listed at all."""
        return not (self.users or self.places)


@dataclass(frozen=True, slots=True)
class Access:
    """The allow lists of all platforms. The local socket needs none: only this machine's user can open it."""

    lists: Mapping[Platform, AllowList]

    def role_of(self, sender: Sender) -> Role | None:
        """Return what the sender may do here, None for a stranger."""
        if sender.platform is Platform.LOCAL:
            return Role.OPERATOR
        allowed = self.lists.get(sender.platform, AllowList())
        private = _is_private(sender)
        if not (sender.place in allowed.places or (private and sender.user in allowed.users)):
            return None
        if allowed.users:
            return allowed.users.get(sender.user)
        role = allowed.places[sender.place]
        return role or (Role.OPERATOR if private else Role.VIEWER)

    def may_ask_id(self, sender: Sender) -> bool:
        """Say whether a stranger may ask for ids: only while nobody is listed on the platform."""
        return self.lists.get(sender.platform, AllowList()).empty


def _is_private(sender: Sender) -> bool:
    if sender.platform is Platform.SLACK:
        return sender.place.startswith("D")
    return sender.place == sender.user
