"""What is said to people, before any platform's markup."""

from __future__ import annotations

from dataclasses import dataclass

COMMAND_BYTES = 64
"""What a button's command may have: the most that Telegram gives back for a press."""


@dataclass(frozen=True, slots=True)
class Button:
    """A button under a message; a press of it means the same as typing `command`."""

    label: str
    command: str

    def __post_init__(self) -> None:
        if len(self.command.encode()) > COMMAND_BYTES:
            raise ValueError(f"too long for a button: {self.command}")


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
    buttons: tuple[tuple[Button, ...], ...] = ()
    attachments: tuple[Attachment, ...] = ()
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a command; `refused` where the command was not obeyed.

    An answer that `replaces` takes the place of the message whose button was pressed, so that it cannot be
    pressed again.
    """

    message: Message
    refused: bool = False
    replaces: bool = False
