"""A place that messages are shown in, and how they got there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from notifiers.message import Message


class Way(StrEnum):
    """How a message gets to people."""

    NEWS = "news, in the thread of the card"
    FOR_ALL = "news, in the thread of the card and on Slack in the channel too"
    CARD = "the card is made, and pinned"
    EDIT = "the card is edited"
    ANSWER = "an answer"
    REFUSAL = "a refusal, on Slack only for who asked"
    WHISPER = "an answer, on Slack only for who asked"
    QUESTION = "a question, which a terminal is not asked"
    HERE = "an answer at the terminal"
    HOME = "the app's Home tab on Slack"
    FORM = "a form on Slack"


@dataclass(frozen=True, slots=True)
class Shown:
    """A message as it is shown; `asked` is the command that it answers, and who gave it.

    A form and the Home tab have a `view` instead.
    """

    message: Message
    way: Way
    asked: str = ""
    view: Mapping[str, Any] | None = None


class Screen:
    """A channel: the chat of one person with the bot. What was shown there is in `shown`."""

    name = "telegram:7"

    def __init__(self) -> None:
        self.shown: list[Shown] = []
        self._ids = 0

    async def send(self, message: Message, *, reply_to: str = "", broadcast: bool = False) -> str:
        way = (Way.FOR_ALL if broadcast else Way.NEWS) if reply_to else Way.CARD
        self.shown.append(Shown(message, way))
        self._ids += 1
        return str(self._ids)

    async def edit(self, message_id: str, message: Message) -> None:
        self.shown.append(Shown(message, Way.EDIT))

    async def pin(self, message_id: str) -> None:
        """There is nothing to be seen of it."""
