"""A Telegram chat as a channel."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from html import escape
from typing import Any, TypeAlias, TypeVar

from telegram import (
    Bot,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    LinkPreviewOptions,
    ReplyKeyboardMarkup,
    ReplyKeyboardRemove,
    ReplyParameters,
)
from telegram.constants import ChatAction, FileSizeLimit, ParseMode
from telegram.error import BadRequest, ChatMigrated, Forbidden, RetryAfter, TelegramError

from loop.text import clean
from notifiers.channels.telegram_places import Places
from notifiers.message import (
    Attachment,
    Button,
    GoneError,
    Message,
    RateLimitedError,
    RefusedError,
    UnreachableError,
    first_units,
    units,
)

log = logging.getLogger(__name__)

# Limits of the Bot API; the first two in UTF-16 code units of the text without its markup.
TEXT_UNITS = 4096
CAPTION_UNITS = 1024
LABEL_CHARACTERS = 64
TITLE_CHARACTERS = 128  # of a topic

PAGES = 2  # a text that needs more messages than this goes as a file
UPLOAD_TRIES = 3  # after so many uploads that failed with the network, the text goes without its file
EMPTY = "(empty)"
REST_IS_IN_FILE = "… (all of it is in the file)"
CUT = "…"

# Invisible characters: Telegram refuses a text that has no others.
_UNSEEN_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Mn", "Me", "Zl", "Zp", "Zs"})
_UNSEEN = frozenset("\u115f\u1160\u2800\u3164\uffa0\ufffc")

_NO_TOPIC = ("message thread not found", "topic_deleted", "topic_id_invalid", "chat is not a forum")
_CLOSED = (
    *("chat not found", "topic_closed", "chat_write_forbidden", "chat_restricted", "peer_id_invalid"),
    *("not enough rights to send text messages", "have no rights to send a message", "not a member of the"),
    *("need administrator rights", "chat was deactivated", "chat was deleted"),
)
"""Words of 400s that say nothing about the message; every 403 is one."""
_NO_PREVIEW = LinkPreviewOptions(is_disabled=True)
_T = TypeVar("_T")

Keys: TypeAlias = ReplyKeyboardMarkup | ReplyKeyboardRemove
"""Keys below the text field of a chat, or the order to take them away."""


class ChatClosedError(UnreachableError):
    """The chat takes nothing at present, whatever it is: closed to us, or we are no longer in it."""


@dataclass(frozen=True, slots=True)
class Page:
    """What one Telegram message holds: text, then a block in fixed width."""

    text: str
    block: str = ""

    @property
    def html(self) -> str:
        block = f"<pre>{escape(self.block, quote=False)}</pre>" if self.block else ""
        return "\n".join(filter(None, (escape(self.text, quote=False), block)))

    @property
    def plain(self) -> str:
        return "\n".join(filter(None, (self.text, self.block)))

    def note(self, line: str) -> Page:
        """Return the page with another line at the end of its text."""
        return replace(self, text="\n".join(filter(None, (self.text, line))))


@dataclass(frozen=True, slots=True)
class Part:
    """One of the Telegram messages that make up one of ours: a page, or a file with the page as its caption.

    Exactly one part of a message has its `buttons`.
    """

    page: Page
    file: Attachment | None = None
    buttons: bool = False


def visible(text: str) -> bool:
    return any(
        character not in _UNSEEN and unicodedata.category(character) not in _UNSEEN_CATEGORIES
        for character in text
    )


def lay_out(message: Message) -> list[Part]:
    """Divide a message into parts, one at least; what does not fit into `PAGES` pages becomes a file."""
    text, block, files = clean(message.text), clean(message.block), message.attachments
    pages = _pages(text, block)
    if len(pages) > PAGES and visible(block):
        is_diff = block.startswith(("diff --git ", "--- ", "@@ "))
        files = (*files, Attachment("changes.diff" if is_diff else "output.txt", block.encode()))
        pages = _pages(text, "")
    if len(pages) > PAGES:
        files = (*files, Attachment("message.txt", text.encode()))
        pages = [_shortened(text, "", TEXT_UNITS, REST_IS_IN_FILE)]
    if files and (not pages or (len(pages) == 1 and units(pages[0].plain) <= CAPTION_UNITS)):
        caption = pages[0] if pages else _alternative(files[0])
        return [Part(caption, files[0], buttons=True), *map(_file_part, files[1:])]
    *others, last = pages or [Page(EMPTY)]
    return [*map(Part, others), Part(last, buttons=True), *map(_file_part, files)]


def one_page(message: Message, limit: int = TEXT_UNITS) -> Page:
    """Return as much of a message as one page of `limit` units holds."""
    text, block = clean(message.text), clean(message.block)
    pages = _pages(text, block, limit) or [Page(EMPTY)]
    return pages[0] if len(pages) == 1 else _shortened(text, block, limit, CUT)


def _file_part(file: Attachment) -> Part:
    return Part(_alternative(file), file)


def _alternative(file: Attachment) -> Page:
    return one_page(Message(file.alt), CAPTION_UNITS) if visible(file.alt) else Page("")


def _shortened(text: str, block: str, limit: int, last_line: str) -> Page:
    page = _pages(text, block, limit - units(last_line) - 1)[0]
    return replace(page, block=f"{page.block}\n{last_line}") if page.block else page.note(last_line)


def _pages(text: str, block: str, limit: int = TEXT_UNITS) -> list[Page]:
    """Fill pages with the lines of the text, then with those of the block; each shows something."""
    pieces = _cut(text, limit, limit) if visible(text) else []
    pages = [Page(piece) for piece in pieces]
    if visible(block):
        room = limit - units(pages[-1].plain) - 1 if pages else limit
        first, *others = _cut(block, room, limit)
        pages = [*pages[:-1], replace(pages[-1], block=first)] if pages else [Page("", first)]
        pages += [Page("", piece) for piece in others]
    return [page for page in pages if visible(page.plain)]


def _cut(text: str, room: int, limit: int) -> list[str]:
    """Cut at line ends: a first piece of up to `room` units, perhaps empty, then others of up to `limit`.

    Only a line that is longer than `limit` is broken.
    """
    pieces: list[str] = []
    lines: list[str] = []
    used = 0
    for line in text.split("\n"):
        rest = line
        while used + bool(lines) + units(rest) > room:
            if lines or room < limit:
                pieces.append("\n".join(lines))
                lines, used, room = [], 0, limit
            else:
                pieces.append(first_units(rest, limit))
                rest = rest[len(pieces[-1]) :]
        used += bool(lines) + units(rest)
        lines.append(rest)
    return [*pieces, "\n".join(lines)]


@dataclass(slots=True)
class _Progress:
    """How far the sending of a message in parts has come; in `topic` if that is not the channel's own."""

    message: Message
    reply_to: str
    topic: int | None = None
    keys: Keys | None = None
    sent: list[str] = field(default_factory=list)
    failed_uploads: int = 0


class TelegramChannel:
    """One chat, or one topic of a forum; see `Channel` for what its methods promise.

    A message of which some parts were sent continues from there when it is sent again next. `places` are
    shared by all that use the bot. A message of a topic other than the channel's own has the id
    `topic/message`; an answer to it goes there, as does one to `topic/`, which answers nothing.
    """

    def __init__(
        self, *, bot: Bot, chat_id: int, topic_id: int | None = None, places: Places | None = None
    ) -> None:
        self._bot = bot
        self._places = places or Places()
        self._chat_id = chat_id
        self._topic_id = topic_id
        self.name = f"telegram:{chat_id}" if topic_id is None else f"telegram:{chat_id}:{topic_id}"
        self._unfinished: _Progress | None = None

    async def send(
        self, message: Message, *, reply_to: str = "", broadcast: bool = False, keys: Keys | None = None
    ) -> str:
        """Send a message and return the id of the part with its buttons, or with `keys` where it has none.

        A long block goes as a file. A refused picture goes as a file, a refused file is replaced by a line.
        """
        del broadcast  # a Telegram chat shows everything to everybody
        progress = self._unfinished
        if progress is None or (progress.message, progress.reply_to) != (message, reply_to):
            topic, _ = _address(reply_to)
            progress = _Progress(message, reply_to, topic, keys)
        self._unfinished = None
        parts = lay_out(message)
        try:
            for part in parts[len(progress.sent) :]:
                progress.sent.append(await self._send_part(part, progress))
        except (RateLimitedError, UnreachableError):
            self._unfinished = progress
            raise
        return next(sent for sent, part in zip(progress.sent, parts, strict=True) if part.buttons)

    async def edit(self, message_id: str, message: Message) -> None:
        """Replace a sent message by as much of `message` as one page holds, without its files."""
        markup = {"message_id": _address(message_id)[1], "reply_markup": _keyboard(message)}
        edit_text, edit_caption = self._bot.edit_message_text, self._bot.edit_message_caption
        try:
            try:
                page = one_page(message)
                await self._say(edit_text, "text", page, link_preview_options=_NO_PREVIEW, **markup)
            except RefusedError as error:
                if "no text in the message to edit" not in str(error).lower():
                    raise
                await self._say(edit_caption, "caption", one_page(message, CAPTION_UNITS), **markup)
        except RefusedError as error:
            if "message is not modified" not in str(error).lower():
                raise
        except ChatClosedError as error:
            # A closed topic takes it when it is open again and there is something new to be shown.
            if "topic_closed" not in str(error).lower():
                raise

    async def check(self) -> None:
        """Raise a ChannelError where the chat takes no messages, or has no such topic.

        For a moment it shows that we type.
        """
        try:
            await self.act(ChatAction.TYPING)
        except ChatClosedError as error:
            raise RefusedError(str(error)) from error
        if self._topic_id is not None and self._places.is_lost(self._chat_id, self._topic_id):
            raise RefusedError("message thread not found")

    async def act(self, action: ChatAction) -> None:
        """Show for five seconds, or until the next message, that we are typing or uploading something."""
        await self._in_topic(self._topic_id, self._call, self._bot.send_chat_action, action=action)

    async def pin(self, message_id: str) -> None:
        try:
            await self._call(
                self._bot.pin_chat_message, message_id=_address(message_id)[1], disable_notification=True
            )
        except RefusedError as error:
            log.info("%s: a message could not be pinned: %s", self.name, error)

    async def _send_part(self, part: Part, progress: _Progress) -> str:
        first = not progress.sent
        options: dict[str, Any] = {
            # One message makes one sound and answers once, however many parts it has.
            "disable_notification": progress.message.silent or not first,
            "reply_parameters": _reply(progress.reply_to) if first else None,
            "reply_markup": (_keyboard(progress.message) or progress.keys) if part.buttons else None,
        }
        page = part.page
        if part.file is not None:
            try:
                return await self._upload(part.file, page, progress, options)
            except RefusedError as error:
                log.warning("%s: %s could not be sent: %s", self.name, part.file.name, error)
                page = page.note(_missing(part.file))
        options["link_preview_options"] = _NO_PREVIEW
        return await self._post(self._bot.send_message, "text", page, progress, **options)

    async def _upload(
        self, file: Attachment, caption: Page, progress: _Progress, options: dict[str, Any]
    ) -> str:
        """Send a file, a picture as such where Telegram takes it. RefusedError where it cannot be sent."""
        options = {"filename": file.name, **options}
        try:
            if _is_picture(file):
                try:
                    photo = {"photo": file.content, **options}
                    return await self._post(self._bot.send_photo, "caption", caption, progress, **photo)
                except RefusedError as error:
                    log.info("%s: %s goes as a file: %s", self.name, file.name, error)
            document = {"document": file.content, **options}
            return await self._post(self._bot.send_document, "caption", caption, progress, **document)
        except ChatClosedError:
            raise
        except UnreachableError as error:
            progress.failed_uploads += 1
            if progress.failed_uploads < UPLOAD_TRIES:
                raise
            raise RefusedError(f"{progress.failed_uploads} uploads failed: {error}") from error

    async def _post(
        self, send: Callable[..., Awaitable[Any]], part: str, page: Page, progress: _Progress, **options: Any
    ) -> str:
        topic = progress.topic or self._topic_id
        sent = await self._in_topic(topic, self._say, send, part, page, **options)
        there = progress.topic and sent.message_thread_id == progress.topic
        return f"{progress.topic}/{sent.message_id}" if there else str(sent.message_id)

    async def _in_topic(
        self, topic: int | None, do: Callable[..., Awaitable[_T]], *args: Any, **options: Any
    ) -> _T:
        """Do something in a topic, or in the chat itself if that cannot be."""
        if topic is not None and not self._places.is_lost(self._chat_id, topic):
            try:
                return await do(*args, message_thread_id=topic, **options)
            except RefusedError as error:
                if not any(sign in str(error).lower() for sign in _NO_TOPIC):
                    raise
                self._places.lose(self._chat_id, topic)
            except ChatClosedError as error:
                # A channel of one topic waits until it is open; one with others would hold them up.
                if topic == self._topic_id or "topic_closed" not in str(error).lower():
                    raise
        return await do(*args, **options)

    async def _say(self, do: Callable[..., Awaitable[_T]], part: str, page: Page, **options: Any) -> _T:
        """Call a method with a page as HTML, or as plain text if Telegram refuses the HTML."""
        try:
            return await self._call(do, **{part: page.html}, parse_mode=ParseMode.HTML, **options)
        except RefusedError as error:
            if "can't parse entities" not in str(error).lower():
                raise
            log.warning("%s: sent without markup: %s", self.name, error)
            return await self._call(do, **{part: page.plain}, **options)

    async def _call(self, do: Callable[..., Awaitable[_T]], **options: Any) -> _T:
        with _as_channel_errors():
            try:
                return await do(chat_id=self._places.now(self._chat_id), **options)
            except ChatMigrated as moved:
                self._places.move(self._chat_id, moved.new_chat_id)
                return await do(chat_id=moved.new_chat_id, **options)


class ForumChannel(TelegramChannel):
    """A group in which each run has a topic of its own; see `Forum` for what its methods promise."""

    async def open_topic(self, name: str) -> str:
        topic = await self._call(self._bot.create_forum_topic, name=name[:TITLE_CHARACTERS])
        return f"{topic.message_thread_id}/"

    async def rename_topic(self, topic: str, name: str) -> None:
        number, _ = _address(topic)
        title = {"message_thread_id": number, "name": name[:TITLE_CHARACTERS]}
        try:
            await self._call(self._bot.edit_forum_topic, **title)
        except RefusedError as error:
            if "topic_not_modified" not in str(error).lower():
                raise


@contextmanager
def _as_channel_errors() -> Iterator[None]:
    try:
        yield
    except RetryAfter as error:
        wait = error.retry_after
        raise RateLimitedError(wait.total_seconds() if isinstance(wait, timedelta) else wait) from error
    except Forbidden as error:
        raise ChatClosedError(error.message) from error
    except BadRequest as error:
        text = error.message.lower()
        if any(sign in text for sign in _CLOSED):
            raise ChatClosedError(error.message) from error
        gone = "message to edit not found" in text or "message_id_invalid" in text
        raise (GoneError if gone else RefusedError)(error.message) from error
    except TelegramError as error:
        # A refused token too: its refusal may come from a proxy, and a person can replace the token.
        raise UnreachableError(error.message) from error


def _address(message_id: str) -> tuple[int | None, int | None]:
    """Return the topic and the number of `topic/message`; either may be missing."""
    topic, _, number = message_id.rpartition("/")
    return int(topic) if topic else None, int(number) if number else None


def _reply(message_id: str) -> ReplyParameters | None:
    _, number = _address(message_id)
    return ReplyParameters(number, allow_sending_without_reply=True) if number else None


def _keyboard(message: Message) -> InlineKeyboardMarkup | None:
    rows = [[_button(button) for button in row] for row in message.buttons if row]
    return InlineKeyboardMarkup(rows) if rows else None


def _button(button: Button) -> InlineKeyboardButton:
    label = clean(button.label)[:LABEL_CHARACTERS]
    return InlineKeyboardButton(label if visible(label) else button.command, callback_data=button.command)


def _is_picture(file: Attachment) -> bool:
    return file.name.lower().endswith(".png") and len(file.content) <= FileSizeLimit.PHOTOSIZE_UPLOAD


def _missing(file: Attachment) -> str:
    what = "chart" if file.name.lower().endswith(".png") else f"file {file.name}"
    return f"(the {what} could not be sent)"
