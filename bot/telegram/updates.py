"""What people ask of the bot by what Telegram hands over: messages and presses of buttons."""

from __future__ import annotations

from dataclasses import dataclass

from telegram import CallbackQuery, MaybeInaccessibleMessage, Update, User
from telegram import Message as TelegramMessage
from telegram.constants import ChatType

from bot.commands.access import Request, Sender
from bot.commands.table import without_run
from notifiers.channels.telegram_places import Places

NAME = "telegram"


@dataclass(frozen=True, slots=True)
class AskedOnTelegram:
    """A request, and what is needed to answer it where it was made.

    `press` is the id of the button press, empty for a message. Telegram does not say when a button was
    pressed: the request has the present, and `shown_at` is when the message was last changed.
    """

    request: Request
    topic: int | None = None
    press: str = ""
    shown_at: float = 0.0


def asked_in(update: Update, *, me: User, now: float, places: Places) -> AskedOnTelegram | None:
    """Return what an update asks of the bot `me`, None where it asks nothing.

    That is: edited messages, what people in a group say to each other, commands for other bots, and what
    somebody only passes on: a forwarded message, or one that another bot wrote.
    """
    key = f"{NAME}:{me.id}:{update.update_id}"
    if update.callback_query is not None:
        return _from_press(update.callback_query, key, now, places)
    message = update.message
    # Who writes in the name of a chat has a user's id that all such writers share.
    sender = (message.sender_chat or message.from_user) if message else None
    if message is None or sender is None or message.forward_origin or message.via_bot:
        return None
    text, answered = _addressed(message.text or message.caption or "", me), _answered(message, me)
    if not text or not (message.chat.type == ChatType.PRIVATE or text.startswith("/") or answered):
        return None
    name = sender.full_name if isinstance(sender, User) else sender.effective_name or ""
    spot = _Spot.of(places, message)
    request = Request(
        spot.sender(str(sender.id), name),
        text,
        key,
        message.date.timestamp(),
        spot.message_id(message),
        replied_to=spot.message_id(answered) if answered else "",
    )
    return AskedOnTelegram(request, spot.topic)


def _answered(message: TelegramMessage, me: User) -> TelegramMessage | None:
    """Return the message of ours that a message answers; all that is in a topic answers its beginning."""
    answered = message.reply_to_message
    if answered is None or answered.forum_topic_created or answered.from_user is None:
        return None
    return answered if answered.from_user.id == me.id else None


def _from_press(press: CallbackQuery, key: str, now: float, places: Places) -> AskedOnTelegram | None:
    message = press.message
    if message is None or not press.data:
        return None
    shown = message.date
    if isinstance(message, TelegramMessage):
        shown = message.edit_date or message.date
    spot, user = _Spot.of(places, message), press.from_user
    sender = spot.sender(str(user.id), user.full_name)
    text, run = without_run(press.data)
    asked = Request(sender, text, key, now, spot.message_id(message), pressed=True, run=run)
    return AskedOnTelegram(asked, spot.topic, press.id, shown.timestamp())


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where a message is: the listed place, its topic, and the topic if that has a channel of its own."""

    place: int
    topic: int | None
    own: int | None

    @classmethod
    def of(cls, places: Places, message: MaybeInaccessibleMessage) -> _Spot:
        place, topic = places.listed(message.chat.id), None
        if isinstance(message, TelegramMessage) and message.is_topic_message:
            topic = message.message_thread_id
        return cls(place, topic, places.topic_of(place, topic))

    def sender(self, user: str, name: str) -> Sender:
        return Sender(NAME, user, str(self.place), name, str(self.own or ""))

    def message_id(self, message: MaybeInaccessibleMessage) -> str:
        """Return the id as the channel of the place gives it."""
        elsewhere = self.topic is not None and self.topic != self.own
        return f"{self.topic}/{message.message_id}" if elsewhere else str(message.message_id)


def _addressed(text: str, me: User) -> str:
    """Return a text without our name behind its command; empty where another bot's name is there."""
    if not text.startswith("/"):
        return text
    head = text.split(maxsplit=1)[0]
    command, at, name = head.partition("@")
    if at and name.lower() != (me.username or "").lower():
        return ""
    return command + text[len(head) :]
