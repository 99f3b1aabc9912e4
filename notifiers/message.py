"""What is said to people, before any platform's markup; where it goes, and how a platform can fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

COMMAND_BYTES = 64  # what a button's command may have: the most that Telegram gives back for a press


@dataclass(frozen=True, slots=True)
class Button:
    """A button under a message; a press of it means the same as typing `command`."""

    label: str
    command: str

    def __post_init__(self) -> None:
        if len(self.command.encode()) > COMMAND_BYTES:
            raise ValueError(f"too long for a button: {self.command}")


Buttons: TypeAlias = tuple[Button, ...]  # a row of them


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes with a message; a `.png` is shown as a picture. `alt` says what it shows."""

    name: str
    content: bytes
    alt: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """Plain text, then an optional block in fixed width: a table, a diff, a log.

    Both are untrusted text as far as markup goes; every platform escapes them in its own way. `buttons` are
    rows. A `silent` message arrives without a sound where the platform knows such a thing.
    """

    text: str
    block: str = ""
    buttons: tuple[Buttons, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a command; `refused` where the command was not obeyed.

    An answer that `replaces` takes the place of the message whose button was pressed, so that it cannot be
    pressed again. One `for_all` says what the command changed: all who read the channel must see it, because
    that channel gets no other message about the change. One that is `brief` is shown by the card, or told by
    the event: a press needs no more than an acknowledgement with its text. `run` is the id of the run that it
    is about, if any.
    """

    message: Message
    refused: bool = False
    replaces: bool = False
    for_all: bool = False
    brief: bool = False
    run: int | None = None

    @classmethod
    def changed(cls, text: str, *, brief: bool = False) -> Reply:
        return cls(Message(text), for_all=True, brief=brief)


def units(text: str) -> int:
    """Return the length in UTF-16 code units, in which chats count."""
    return len(text.encode("utf-16-le")) // 2


def first_units(text: str, limit: int) -> str:
    """Return as much of the beginning; half of a surrogate pair at the cut is left out."""
    return text.encode("utf-16-le")[: 2 * limit].decode("utf-16-le", "ignore")


class ChannelError(Exception):
    """A message was not taken. The text says why, without any secret."""


class UnreachableError(ChannelError):
    """The platform did not answer, or answered that it is in trouble: try again later."""


class RateLimitedError(ChannelError):
    """The platform wants to be left alone for `seconds`: try again after them."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"asked to wait {seconds:.0f} s")
        self.seconds = seconds


class RefusedError(ChannelError):
    """The platform will never take this message (400, 403): trying again is of no use."""


class GoneError(RefusedError):
    """The message to be edited or answered is no longer there."""


class Channel(Protocol):
    """One chat or channel of one platform.

    Every method raises a `ChannelError` where the platform does not do what it is asked, and nothing else.
    Message ids are the platform's, as text.
    """

    @property
    def name(self) -> str:
        """The name under which deliveries are recorded, such as `telegram:-1001234` or `slack:C024BE91L`."""

    async def send(self, message: Message, *, reply_to: str = "", broadcast: bool = False) -> str:
        """Send a message and return its id.

        With `reply_to` it answers that message or goes into its thread; with `broadcast` it is shown in the
        channel as well. A picture that is refused does not take the text with it.
        """

    async def edit(self, message_id: str, message: Message) -> None:
        """Put `message` in the place of one sent before; one that already reads so is fine."""

    async def pin(self, message_id: str) -> None:
        """Pin a message where the platform and our rights allow it; otherwise do nothing."""
