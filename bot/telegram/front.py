"""The front end on Telegram: commands and button presses in, answers out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from telegram import BotCommand, KeyboardButton, ReplyKeyboardMarkup, ReplyKeyboardRemove, Update, User
from telegram.constants import ChatAction
from telegram.error import BadRequest, TelegramError
from telegram.ext import ExtBot

from bot.commands.access import Request, Role, Sender
from bot.commands.table import USUAL, VISIBLE, find_command
from bot.front import Answer, CommandQueue, FrontHealth, keep_connected, show_answer
from bot.telegram.connection import Line, Pulse, TelegramPace, TokenRefusedError, Webhook
from bot.telegram.updates import AskedOnTelegram, asked_in
from loop.errors import UserError
from loop.files import LockedError, lock
from notifiers.channels.telegram import Keys, TelegramChannel
from notifiers.channels.telegram_places import Places
from notifiers.message import ChannelError, Message, RateLimitedError, RefusedError, Reply, UnreachableError

log = logging.getLogger(__name__)

REFUSALS = 3  # 401s in a row until the token is taken for wrong: proxies and outages answer so too

DESCRIPTION_CHARACTERS = 256
SAID_CHARACTERS = 200  # in the acknowledgement of a press

LONG_COMMANDS = {
    "plot": ChatAction.UPLOAD_PHOTO,
    "summary": ChatAction.TYPING,
    "bundle": ChatAction.UPLOAD_DOCUMENT,
}
"""What is shown at once while these are at work; for any other command TYPING, after `LONG_SECONDS`."""
LONG_SECONDS = 1.0
ACTION_SECONDS = 4.5  # after which an action is shown again: Telegram shows it for five seconds
SPIN_SECONDS = 2.0  # that a pressed button may spin before it is acknowledged without words


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


@dataclass(eq=False, kw_only=True, repr=False)  # which would show tokens
class TelegramFront:
    """Turns what people do on Telegram into requests, and shows what `answer` says to them.

    `answer` returns None for what must not be answered at all. Answers go through `bot`, made by `make_bot`:
    it may serve channels too, before the front runs and after. Updates come over a line of their own, which
    is replaced whenever it dies, by long polling or by `webhook`. A file in the folder `locks` keeps other
    bots of this machine from using the same token. `role_of` tells what somebody may do, None for strangers.
    With `keyboard` private chats get keys for the usual commands.
    """

    bot: ExtBot[None]
    answer: Answer
    role_of: Callable[[Sender], Role | None]
    locks: Path
    places: Places = field(default_factory=Places)
    webhook: Webhook | None = None
    keyboard: bool = False
    pace: TelegramPace = field(default_factory=TelegramPace)

    def __post_init__(self) -> None:
        self._has_keys: set[str] = set()  # private chats, since this process started
        self._menu = [BotCommand(one.name, one.help[:DESCRIPTION_CHARACTERS]) for one in VISIBLE]
        self._menu_is_set = False
        self._lock = self.locks / f"telegram-{self.bot.token.partition(':')[0]}.lock"
        self._pulse = Pulse()
        self._refusals = 0  # in a row
        self._queue = CommandQueue(self.pace.head_start)

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
                    waits=self.pace.waits,
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
            await asyncio.sleep(self.pace.waits[0])

    async def _connect(self) -> None:
        token = self.bot.token
        base_url = self.bot.base_url.removesuffix(f"/bot{token}")
        try:
            async with Line(
                token=token,
                base_url=base_url,
                receive=self._receive,
                pulse=self._pulse,
                pace=self.pace,
                webhook=self.webhook,
            ) as line:
                self._refusals = 0
                log.info("Telegram: connected as @%s", line.me.username)
                await self._set_menu()
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
            self._menu_is_set = await self.bot.set_my_commands(self._menu)
        except TelegramError as error:
            log.warning("Telegram: the menu of commands could not be set: %s", error)

    async def _receive(self, update: Update, me: User, waited: bool) -> None:
        if (moved := update.message) and moved.migrate_from_chat_id is not None:
            self.places.move(self.places.listed(moved.migrate_from_chat_id), moved.chat.id)
        asked = asked_in(update, me=me, now=time.time(), places=self.places)
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
        self, asked: AskedOnTelegram, said: asyncio.Future[Said | None], shown: asyncio.Task[bool | None]
    ) -> None:
        if said.done() and await shown is None:
            asked = replace(asked, request=replace(asked.request, sent_at=asked.shown_at))
        async with self._shows_work(asked):
            reply = await self.answer(asked.request)
            if not said.done():
                said.set_result(said_of(reply))
                if await shown and not (reply and reply.replaces):
                    return
            if reply is not None:
                await self._show_answer(asked, reply)

    async def _obey(self, asked: AskedOnTelegram) -> None:
        async with self._shows_work(asked):
            reply = await self.answer(asked.request)
            if reply is not None:
                await self._show_answer(asked, reply)

    async def _show_answer(self, asked: AskedOnTelegram, reply: Reply) -> None:
        channel, keys = self._channel(asked), self._keys(asked.request, reply)
        if keys is not None:
            reply = replace(reply, message=replace(reply.message, buttons=()))
        await show_answer(lambda: _show(channel, asked, reply, keys), asked.request, self.pace.answer)

    def _channel(self, asked: AskedOnTelegram) -> TelegramChannel:
        place = int(asked.request.sender.place)
        return TelegramChannel(bot=self.bot, chat_id=place, topic_id=asked.topic, places=self.places)

    def _keys(self, request: Request, reply: Reply) -> Keys | None:
        """Return the keyboard that comes with an answer: the first without buttons, and the one to /start.

        Telegram keeps it until another comes. Where it is off, one from before is taken away.
        """
        sender, command = request.sender, request.text.partition(" ")[0].lower()
        role, starts = self.role_of(sender), self.keyboard and command == "/start"
        if role is None or int(sender.place) < 0 or reply.replaces:
            return None
        if not starts and (sender.place in self._has_keys or reply.message.buttons):
            return None
        self._has_keys.add(sender.place)
        if not self.keyboard:
            return ReplyKeyboardRemove()
        usual = [KeyboardButton(f"/{name}") for name in USUAL if find_command(name).role <= role]
        rows = list(filter(None, (usual[:3], usual[3:])))
        return ReplyKeyboardMarkup(rows, resize_keyboard=True, is_persistent=True)

    @asynccontextmanager
    async def _shows_work(self, asked: AskedOnTelegram) -> AsyncIterator[None]:
        """Show that we type or upload while a command takes long; strangers see nothing."""
        action = LONG_COMMANDS.get(asked.request.text.partition(" ")[0].removeprefix("/").lower())
        if self.role_of(asked.request.sender) is None:
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
                await self.bot.answer_callback_query(press)
            else:
                await self.bot.answer_callback_query(press, text.text, show_alert=text.stays)
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


async def _show(channel: TelegramChannel, asked: AskedOnTelegram, reply: Reply, keys: Keys | None) -> None:
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
    await channel.send(message, reply_to=asked.request.message_id, keys=keys)
