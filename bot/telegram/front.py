"""The front end on Telegram: commands and button presses in, answers out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from telegram import BotCommand, CallbackQuery, Update, User
from telegram import Message as TelegramMessage
from telegram.constants import ChatType
from telegram.error import BadRequest, TelegramError
from telegram.ext import ExtBot

from bot.commands.access import Request, Sender
from bot.commands.table import Command
from bot.front import ANSWER_WAITS, HEAD_START, Answer, CommandQueue, FrontHealth, keep_connected, show_answer
from bot.telegram.connection import Context, Line, Pace, Pulse, TokenRefusedError, Webhook
from loop.errors import UserError
from loop.files import LockedError, lock
from notifiers.channels.telegram import Groups, TelegramChannel
from notifiers.message import ChannelError, Message, RefusedError, Reply, UnreachableError

log = logging.getLogger(__name__)

NAME = "telegram"

REFUSALS = 3
"""401s in a row after which the token is taken for wrong: proxies and outages answer so once or twice."""

DESCRIPTION_CHARACTERS = 256


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


def asked_in(update: Update, *, me: User, now: float, groups: Groups) -> Asked | None:
    """Return what an update asks of the bot `me`, None where it asks nothing.

    That is: edited messages, what people in a group say to each other, commands for other bots. A reply to a
    message of the bot may ask something.
    """
    key = f"{NAME}:{me.id}:{update.update_id}"
    if update.callback_query is not None:
        return _from_press(update.callback_query, key, now, groups)
    message = update.message
    sender = (message.from_user or message.sender_chat) if message else None
    if message is None or sender is None:
        return None
    text = _addressed(message.text or "", me)
    reply = message.reply_to_message  # in a topic also what opened it
    replied_to = str(reply.message_id) if reply and reply.from_user and reply.from_user.id == me.id else ""
    if not text or not (message.chat.type == ChatType.PRIVATE or text.startswith("/") or replied_to):
        return None
    name = sender.full_name if isinstance(sender, User) else sender.effective_name or ""
    topic = message.message_thread_id if message.is_topic_message else None
    who = Sender(NAME, str(sender.id), str(groups.listed(message.chat.id)), name, str(topic or ""))
    sent_at, message_id = message.date.timestamp(), str(message.message_id)
    request = Request(who, text, key, sent_at, message_id, replied_to=replied_to)
    return Asked(request, topic)


def _from_press(press: CallbackQuery, key: str, now: float, groups: Groups) -> Asked | None:
    message = press.message
    if message is None or not press.data:
        return None
    topic, shown = None, message.date
    if isinstance(message, TelegramMessage):
        topic = message.message_thread_id if message.is_topic_message else None
        shown = message.edit_date or message.date
    user, place = press.from_user, str(groups.listed(message.chat.id))
    who = Sender(NAME, str(user.id), place, user.full_name, str(topic or ""))
    request = Request(who, press.data, key, now, str(message.message_id), pressed=True)
    return Asked(request, topic, press.id, shown.timestamp())


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
    """

    def __init__(
        self,
        *,
        bot: ExtBot[None],
        answer: Answer,
        commands: Sequence[Command],
        locks: Path,
        groups: Groups | None = None,
        channels: Sequence[TelegramChannel] = (),
        webhook: Webhook | None = None,
        pace: Pace | None = None,
        head_start: float = HEAD_START,
        answer_waits: Sequence[float] = ANSWER_WAITS,
    ) -> None:
        self._bot = bot
        self._answer = answer
        self._menu = [BotCommand(one.name, one.help[:DESCRIPTION_CHARACTERS]) for one in commands]
        self._menu_is_set = False
        self._groups = groups or Groups()
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

    async def _receive(self, update: Update, context: Context) -> None:
        if (moved := update.message) and moved.migrate_from_chat_id is not None:
            self._groups.move(self._groups.listed(moved.migrate_from_chat_id), moved.chat.id)
        asked = asked_in(update, me=context.bot.bot, now=time.time(), groups=self._groups)
        if asked is None:
            return
        place = asked.request.sender.place
        if not asked.press:
            self._queue.put(place, partial(self._obey, asked))
            return
        # At once, and not when its turn comes: the button spins until then, and Telegram waits 15 s at most.
        fresh = self._queue.begin(self._acknowledge(asked.press))
        self._queue.put(place, partial(self._obey_press, asked, fresh))

    async def _obey_press(self, asked: Asked, fresh: asyncio.Task[bool]) -> None:
        if not await fresh:
            asked = replace(asked, request=replace(asked.request, sent_at=asked.shown_at))
        await self._obey(asked)

    async def _obey(self, asked: Asked) -> None:
        reply = await self._answer(asked.request)
        if reply is not None:
            place = int(asked.request.sender.place)
            channel = TelegramChannel(bot=self._bot, chat_id=place, topic_id=asked.topic, groups=self._groups)
            await show_answer(lambda: _show(channel, asked, reply), asked.request, self._answer_waits)

    async def _acknowledge(self, press: str) -> bool:
        """Stop the spinner of a pressed button; False when Telegram says that the press is old.

        That happens when the bot was not running, and is the only sign of it.
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
