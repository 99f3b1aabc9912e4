"""What people do on Telegram, as requests."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from telegram import Bot, CallbackQuery, Update, User
from telegram import Message as TelegramMessage
from telegram.constants import ChatType
from telegram.error import BadRequest, TelegramError

from bot.access import Platform, Request, Sender
from bot.front import show_answer
from notifiers.channel import RefusedError
from notifiers.channels.telegram import TelegramChannel
from notifiers.message import Message, Reply


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and what is needed to answer it where it was made.

    `press` is the id of the button press, empty for a message. Telegram does not say when a button was
    pressed: the request has the present, and `shown_at` is the earliest it can have been.
    """

    request: Request
    topic: int | None = None
    press: str = ""
    shown_at: float = 0.0


def asked_in(update: Update, *, me: User, now: float) -> Asked | None:
    """Return what an update asks of the bot `me`, None where it asks nothing.

    That is: edited messages, what people in a group say to each other, commands for other bots.
    """
    key = f"{Platform.TELEGRAM}:{me.id}:{update.update_id}"
    if update.callback_query is not None:
        return _from_press(update.callback_query, key, now)
    if update.message is not None:
        return _from_message(update.message, key, me)
    return None


def _from_message(message: TelegramMessage, key: str, me: User) -> Asked | None:
    text = _addressed(message.text or "", me)
    sender = message.from_user or message.sender_chat
    private = message.chat.type == ChatType.PRIVATE
    if not text or sender is None or not (private or text.startswith("/")):
        return None
    return Asked(
        Request(
            sender=_sender(sender.id, message.chat.id, _name(message)),
            text=text,
            key=key,
            sent_at=message.date.timestamp(),
            message_id=str(message.message_id),
        ),
        topic=message.message_thread_id if message.is_topic_message else None,
    )


def _from_press(press: CallbackQuery, key: str, now: float) -> Asked | None:
    message = press.message
    if message is None or not press.data:
        return None
    topic, shown = None, message.date
    if isinstance(message, TelegramMessage):
        topic = message.message_thread_id if message.is_topic_message else None
        shown = message.edit_date or message.date
    return Asked(
        Request(
            sender=_sender(press.from_user.id, message.chat.id, press.from_user.full_name),
            text=press.data,
            key=key,
            sent_at=now,
            message_id=str(message.message_id),
        ),
        topic=topic,
        press=press.id,
        shown_at=shown.timestamp(),
    )


def _addressed(text: str, me: User) -> str:
    """Return a text without our name behind its command; empty where another bot's name is there."""
    if not text.startswith("/"):
        return text
    head = text.split(maxsplit=1)[0]
    command, at, name = head.partition("@")
    if at and name.lower() != (me.username or "").lower():
        return ""
    return command + text[len(head) :]


def _sender(user: int, chat: int, name: str) -> Sender:
    return Sender(Platform.TELEGRAM, user=str(user), place=str(chat), name=name)


def _name(message: TelegramMessage) -> str:
    if message.from_user is not None:
        return message.from_user.full_name
    return message.sender_chat.effective_name or "" if message.sender_chat is not None else ""


log = logging.getLogger(__name__)


class TelegramReplies:
    """Shows the answers to requests through `bot`."""

    def __init__(self, *, bot: Bot, waits: Sequence[float]) -> None:
        self._bot = bot
        self._waits = waits

    async def acknowledge(self, press: str) -> bool:
        """Let a pressed button come to rest; False when Telegram says that the press is long ago.

        That happens when the bot was not there, and is the only sign of it.
        """
        try:
            await self._bot.answer_callback_query(press)
        except BadRequest as error:
            if "query is too old" in error.message.lower():
                return False
            log.info("Telegram: a press could not be acknowledged: %s", error)
        except TelegramError as error:
            log.info("Telegram: a press could not be acknowledged: %s", error)
        return True

    async def show(self, asked: Asked, reply: Reply) -> None:
        """Show an answer; one that Telegram does not take is given up with a line in the log."""
        place = int(asked.request.sender.place)
        channel = TelegramChannel(bot=self._bot, chat_id=place, topic_id=asked.topic)
        await show_answer(lambda: _show(channel, asked, reply), asked.request, self._waits)


async def _show(channel: TelegramChannel, asked: Asked, reply: Reply) -> None:
    message = reply.message
    if reply.replaces and asked.press:
        try:
            await channel.edit(asked.request.message_id, message)
        except RefusedError as error:  # deleted, or too old to be edited
            log.info("Telegram: an answer goes as a new message: %s", error)
        else:
            if not message.attachments:
                return
            message = replace(Message(""), attachments=message.attachments, silent=True)
    await channel.send(message, reply_to=asked.request.message_id)
