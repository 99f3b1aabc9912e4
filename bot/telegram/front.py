"""The front end on Telegram: commands and button presses in, answers out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from telegram import BotCommand, CallbackQuery, MaybeInaccessibleMessage, Update, User
from telegram import Message as TelegramMessage
from telegram.constants import ChatAction, ChatType
from telegram.error import BadRequest, TelegramError
from telegram.ext import ExtBot

from bot.commands.access import Request, Sender
from bot.commands.table import Command
from bot.front import ANSWER_WAITS, HEAD_START, Answer, CommandQueue, FrontHealth, keep_connected, show_answer
from bot.telegram.connection import Line, Pace, Pulse, TokenRefusedError, Webhook
from loop.errors import UserError
from loop.files import LockedError, lock
from notifiers.channels.telegram import TelegramChannel
from notifiers.channels.telegram_places import Places
from notifiers.message import ChannelError, Message, RateLimitedError, RefusedError, Reply, UnreachableError

log = logging.getLogger(__name__)

NAME = "telegram"

REFUSALS = 3
"""401s in a row after which the token is taken for wrong: proxies and outages answer so once or twice."""

DESCRIPTION_CHARACTERS = 256
SAID_CHARACTERS = 200  # in the acknowledgement of a press

LONG_COMMANDS = {
    "plot": ChatAction.UPLOAD_PHOTO,
    "summary": ChatAction.TYPING,
    "bundle": ChatAction.UPLOAD_DOCUMENT,
}
"""What is shown at once while these are at work; for any other command TYPING, after `LONG_SECONDS`."""
LONG_SECONDS = 1.0
ACTION_SECONDS = 4.5
"""After which an action is shown again: Telegram shows it for five seconds."""

SPIN_SECONDS = 2.0
"""How long a pressed button may spin before it is acknowledged without words."""


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


def asked_in(update: Update, *, me: User, now: float, places: Places) -> Asked | None:
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
    return Asked(request, spot.topic)


def _answered(message: TelegramMessage, me: User) -> TelegramMessage | None:
    """Return the message of ours that a message answers; all that is in a topic answers its beginning."""
    answered = message.reply_to_message
    if answered is None or answered.forum_topic_created or answered.from_user is None:
        return None
    return answered if answered.from_user.id == me.id else None


def _from_press(press: CallbackQuery, key: str, now: float, places: Places) -> Asked | None:
    message = press.message
    if message is None or not press.data:
        return None
    shown = message.date
    if isinstance(message, TelegramMessage):
        shown = message.edit_date or message.date
    spot, user = _Spot.of(places, message), press.from_user
    sender = spot.sender(str(user.id), user.full_name)
    request = Request(sender, press.data, key, now, spot.message_id(message), pressed=True)
    return Asked(request, spot.topic, press.id, shown.timestamp())


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


@dataclass(frozen=True, slots=True)
class Said:
    """What only the one who pressed a button sees, for a moment or until it is closed."""

    text: str
    stays: bool


def said_of(reply: Reply | None) -> Said | None:
    """Return what is enough of an answer to a press, None where it has to be a message.

    That a person may not do something is not for the whole group. What else is brief is shown by the card.
    """
    if reply is None or not (reply.refused or reply.brief):
        return None
    message = reply.message
    if message.block or message.buttons or message.attachments or len(message.text) > SAID_CHARACTERS:
        return None
    return Said(message.text, stays=reply.refused)


def _addressed(text: str, me: User) -> str:
    """Return a text without our name behind its command; empty where another bot's name is there."""
    if not text.startswith("/"):
        return text
    head = text.split(maxsplit=1)[0]
    command, at, name = head.partition("@")
    if at and name.lower() != (me.username or "").lower():
        return ""
    return command + text[len(head) :]


class TelegramFront:
    """Turns what people do on Telegram into requests, and shows what `answer` says to them.

    `answer` returns None for what must not be answered at all. Answers go through `bot`, made by `make_bot`:
    it may serve channels too, before the front runs and after. Updates come over a line of their own, which
    is replaced whenever it dies, by long polling or by `webhook`. A file in the folder `locks` keeps other
    bots of this machine from using the same token. The `channels` are looked at once there is a line.
    `knows` tells who is no stranger.
    """

    def __init__(
        self,
        *,
        bot: ExtBot[None],
        answer: Answer,
        commands: Sequence[Command],
        knows: Callable[[Sender], bool],
        locks: Path,
        places: Places | None = None,
        channels: Sequence[TelegramChannel] = (),
        webhook: Webhook | None = None,
        pace: Pace | None = None,
        head_start: float = HEAD_START,
        answer_waits: Sequence[float] = ANSWER_WAITS,
    ) -> None:
        self._bot = bot
        self._answer = answer
        self._knows = knows
        self._menu = [BotCommand(one.name, one.help[:DESCRIPTION_CHARACTERS]) for one in commands]
        self._menu_is_set = False
        self._places = places or Places()
        self._unchecked = list(channels)
        self._lock = locks / f"telegram-{bot.token.partition(':')[0]}.lock"
        self._webhook = webhook
        self._pace = pace or Pace()
        self._pulse = Pulse()
        self._refusals = 0  # in a row
        self._queue = CommandQueue(head_start)
        self._answer_waits = answer_waits

    def health(self) -> FrontHealth:
        return FrontHealth(self._pulse.connected, self._pulse.last_seen, self._pulse.error)

    async def run(self) -> None:
        """Serve until cancelled; a token that Telegram does not know is said once, and never tried again."""
        try:
            with ExitStack() as held:
                await self._take_lock(held)
                await keep_connected(
                    "Telegram",
                    self._connect,
                    waits=self._pace.waits,
                    last_seen=lambda: self._pulse.last_seen,
                    failed=self._pulse.fail,
                )
        finally:
            await self._queue.close()

    async def _take_lock(self, held: ExitStack) -> None:
        while True:
            try:
                self._lock.parent.mkdir(parents=True, exist_ok=True)
                return held.enter_context(lock(self._lock))
            except OSError as no:  # a file system without locks is no reason not to work
                log.info("%s cannot be locked: %s", self._lock, no.strerror)
                return None
            except LockedError as other:
                error = f"another bot on this machine ({other}) uses this token: stop one of them"
                if error != self._pulse.error:
                    log.warning("Telegram: %s", error)
                self._pulse.fail(error)
            await asyncio.sleep(self._pace.waits[0])

    async def _connect(self) -> None:
        token = self._bot.token
        base_url = self._bot.base_url.removesuffix(f"/bot{token}")
        try:
            async with Line(
                token=token,
                base_url=base_url,
                receive=self._receive,
                pulse=self._pulse,
                pace=self._pace,
                webhook=self._webhook,
            ) as line:
                self._refusals = 0
                log.info("Telegram: connected as @%s", line.me.username)
                await self._set_menu()
                await self._check_channels()
                await line.watch()
        except UnreachableError as error:
            self._refusals = self._refusals + 1 if isinstance(error, TokenRefusedError) else 0
            if self._refusals == REFUSALS:
                raise UserError(
                    "Telegram does not accept TELEGRAM_BOT_TOKEN (401): set it to the token that "
                    "@BotFather shows."
                ) from None
            raise

    async def _set_menu(self) -> None:
        if self._menu_is_set:
            return
        try:
            self._menu_is_set = await self._bot.set_my_commands(self._menu)
        except TelegramError as error:
            log.warning("Telegram: the menu of commands could not be set: %s", error)

    async def _check_channels(self) -> None:
        """Look whether we may write to them, and learn which groups have other ids now."""
        while self._unchecked:
            channel = self._unchecked.pop()
            try:
                await channel.check()
            except RefusedError as error:
                log.warning("%s takes no messages: %s", channel.name, error)
            except ChannelError as error:
                log.info("%s could not be looked at: %s", channel.name, error)

    async def _receive(self, update: Update, me: User, waited: bool) -> None:
        if (moved := update.message) and moved.migrate_from_chat_id is not None:
            self._places.move(self._places.listed(moved.migrate_from_chat_id), moved.chat.id)
        asked = asked_in(update, me=me, now=time.time(), places=self._places)
        if asked is None:
            return
        place = asked.request.sender.place
        if not asked.press:
            self._queue.put(place, partial(self._obey, asked))
            return
        said: asyncio.Future[Said | None] = asyncio.get_running_loop().create_future()
        if waited:  # only Telegram knows whether it is old, and has to say so before it is obeyed
            said.set_result(None)
        # At once, and not when its turn comes: the button spins until then, and Telegram waits 15 s at most.
        shown = self._queue.begin(self._acknowledge(asked.press, said))
        self._queue.put(place, partial(self._obey_press, asked, said, shown))

    async def _obey_press(
        self, asked: Asked, said: asyncio.Future[Said | None], shown: asyncio.Task[bool | None]
    ) -> None:
        if said.done() and await shown is None:
            asked = replace(asked, request=replace(asked.request, sent_at=asked.shown_at))
        async with self._shows_work(asked):
            reply = await self._answer(asked.request)
            if not said.done():
                said.set_result(said_of(reply))
                if await shown and not (reply and reply.replaces):
                    return
            if reply is not None:
                await self._show_answer(asked, reply)

    async def _obey(self, asked: Asked) -> None:
        async with self._shows_work(asked):
            reply = await self._answer(asked.request)
            if reply is not None:
                await self._show_answer(asked, reply)

    async def _show_answer(self, asked: Asked, reply: Reply) -> None:
        channel = self._channel(asked)
        await show_answer(lambda: _show(channel, asked, reply), asked.request, self._answer_waits)

    def _channel(self, asked: Asked) -> TelegramChannel:
        place = int(asked.request.sender.place)
        return TelegramChannel(bot=self._bot, chat_id=place, topic_id=asked.topic, places=self._places)

    @asynccontextmanager
    async def _shows_work(self, asked: Asked) -> AsyncIterator[None]:
        """Show that we type or upload while a command takes long; strangers see nothing."""
        action = LONG_COMMANDS.get(asked.request.text.partition(" ")[0].removeprefix("/").lower())
        if not self._knows(asked.request.sender):
            yield
            return
        showing = asyncio.create_task(
            _show_work(
                self._channel(asked), action or ChatAction.TYPING, after=0.0 if action else LONG_SECONDS
            )
        )
        try:
            yield
        finally:
            showing.cancel()
            await asyncio.wait({showing})

    async def _acknowledge(self, press: str, said: asyncio.Future[Said | None]) -> bool | None:
        """Stop the spinner of a pressed button, with what is `said` within a moment.

        Return whether that was shown; None when Telegram says that the press is old. That happens when the
        bot was not running, and is the only sign of it.
        """
        await asyncio.wait({said}, timeout=SPIN_SECONDS)
        text = None if said.cancel() else said.result()
        try:
            if text is None:
                await self._bot.answer_callback_query(press)
            else:
                await self._bot.answer_callback_query(press, text.text, show_alert=text.stays)
        except TelegramError as error:
            if isinstance(error, BadRequest) and "query is too old" in error.message.lower():
                return None
            log.info("Telegram: a press could not be acknowledged: %s", error)
            return False
        return text is not None


async def _show_work(channel: TelegramChannel, action: ChatAction, *, after: float) -> None:
    await asyncio.sleep(after)
    while True:
        pause = ACTION_SECONDS
        try:
            await channel.act(action)
        except RateLimitedError as error:
            pause = max(pause, error.seconds)
        except ChannelError as error:
            log.debug("%s does not show what we do: %s", channel.name, error)
        await asyncio.sleep(pause)


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
