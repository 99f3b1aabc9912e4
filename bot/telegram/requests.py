"""What people do on Telegram, as requests."""

from __future__ import annotations

from dataclasses import dataclass

from telegram import CallbackQuery, Message, Update, User
from telegram.constants import ChatType

from bot.request import Platform, Request, Sender


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


def _from_message(message: Message, key: str, me: User) -> Asked | None:
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
    if isinstance(message, Message):
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


def _name(message: Message) -> str:
    if message.from_user is not None:
        return message.from_user.full_name
    return message.sender_chat.effective_name or "" if message.sender_chat is not None else ""
