"""Access: allow lists of users and of places, and the role that a sender has by them. Default deny."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum

from loop.experiment import Asker

LOCAL = "local"  # the platform of the bot's own socket, which only this machine's user can open
TERMINAL = "terminal"  # the channel of all terminals that are attached to that socket


@dataclass(frozen=True, slots=True)
class Sender:
    """Who asks, and where: ids as the platform gives them, and the name to show.

    `topic` is the part of the place that has messages of its own, empty where there is none.
    """

    platform: str
    user: str
    place: str
    name: str
    topic: str = ""

    @property
    def is_local(self) -> bool:
        return self.platform == LOCAL

    @property
    def spot(self) -> str:
        """The place as a setting lists it, with its topic."""
        return "/".join(filter(None, (self.place, self.topic)))

    @property
    def channel(self) -> str:
        """The name of the channel that writes to this place."""
        if self.is_local:
            return TERMINAL
        return ":".join(filter(None, (self.platform, self.place, self.topic)))

    @property
    def asker(self) -> Asker:
        return Asker(self.name, self.channel)


HERE = Sender(LOCAL, user="", place="", name="")


@dataclass(frozen=True, slots=True)
class Request:
    """A command as typed, or as the button that was pressed means.

    `key` is the same whenever the platform delivers the same request again, and never otherwise; `sent_at` is
    in seconds since the epoch; `message_id` is the message that asks, or whose button was `pressed`.
    `replied_to` is the message of ours that a text answers, or the one whose thread it is in. `run` is the id
    of the run that the button, the message or its topic is about.
    """

    sender: Sender
    text: str
    key: str
    sent_at: float
    message_id: str = ""
    pressed: bool = False
    replied_to: str = ""
    run: int | None = None


class Role(IntEnum):
    """What a sender may do; a higher role includes the lower one."""

    VIEWER = 1  # ask
    OPERATOR = 2  # steer


def has_own_chat(sender: Sender) -> bool:
    return sender.place == sender.user


@dataclass(frozen=True, slots=True)
class AllowList:
    """The ids of one platform that are let in, each with its role, and the settings that list them.

    A user without a role of its own (None) is an operator. A place without one makes its members operators
    where it is private, and viewers where it is a group: who shall steer from a group is listed as a user.
    A place is listed whole, or by one of its topics as `place/topic`.
    """

    users: Mapping[str, Role | None] = field(default_factory=dict)
    places: Mapping[str, Role | None] = field(default_factory=dict)
    users_setting: str = ""
    places_setting: str = ""
    is_private: Callable[[Sender], bool] = has_own_chat

    @property
    def is_used(self) -> bool:
        return bool(self.users or self.places)

    def role_of(self, sender: Sender) -> Role | None:
        private = self.is_private(sender)
        place = next((place for place in (sender.spot, sender.place) if place in self.places), None)
        if place is None and not (private and sender.user in self.users):
            return None
        if self.users:
            return (self.users[sender.user] or Role.OPERATOR) if sender.user in self.users else None
        assert place is not None
        return self.places[place] or (Role.OPERATOR if private else Role.VIEWER)

    def highest_role(self, channel: str) -> Role:
        """Return the most that anybody may do in the place that a channel of this name writes to."""
        platform, place, *topic = channel.split(":")
        people = [*self.users] or [place.lstrip("-")]  # of a private chat, whose id a group has never
        senders = (Sender(platform, user, place, "", *topic) for user in people)
        return max((role for sender in senders if (role := self.role_of(sender))), default=Role.VIEWER)


@dataclass(frozen=True, slots=True)
class Access:
    """The allow lists by platform. The local socket needs none."""

    lists: dict[str, AllowList]

    def role_of(self, sender: Sender) -> Role | None:
        """Return what the sender may do here, None for a stranger."""
        return Role.OPERATOR if sender.is_local else self._list(sender).role_of(sender)

    def highest_role(self, channel: str) -> Role:
        """Return the most that anybody may do in a channel: what its buttons may ask for."""
        platform, _, place = channel.partition(":")
        known = place and platform in self.lists
        return self.lists[platform].highest_role(channel) if known else Role.OPERATOR

    def may_ask_id(self, sender: Sender) -> bool:
        """Tell whether a stranger may ask for ids: only while the platform's lists are empty."""
        return not self._list(sender).is_used

    def admit(self, sender: Sender) -> None:
        """List a sender and the place, and nobody else of the platform, until the bot ends."""
        users: dict[str, Role | None] = {sender.user: None}
        places: dict[str, Role | None] = {sender.spot: None}
        self.lists[sender.platform] = replace(self._list(sender), users=users, places=places)

    def env_lines(self, sender: Sender) -> str:
        """Return the lines of `.env` that let the sender steer from the place."""
        allowed = self._list(sender)
        lines = [f"{allowed.places_setting}={sender.spot}"]
        if not allowed.is_private(sender):  # its members only read
            lines.append(f"{allowed.users_setting}={sender.user}")
        return "\n".join(lines)

    def ids_of(self, sender: Sender) -> str:
        """Return the settings that would list the sender and the place."""
        if sender.is_local:
            return "The local socket needs no id."
        allowed = self._list(sender)
        return (
            f"You: {allowed.users_setting}={sender.user}\nThis chat: {allowed.places_setting}={sender.spot}"
        )

    def _list(self, sender: Sender) -> AllowList:
        return self.lists.get(sender.platform, AllowList())
