"""A Telegram chat as a channel."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

from telegram import Bot, InlineKeyboardButton, InlineKeyboardMarkup, LinkPreviewOptions, ReplyParameters
from telegram.constants import FileSizeLimit, ParseMode
from telegram.error import BadRequest, ChatMigrated, Forbidden, RetryAfter, TelegramError

from loop.text import clean
from notifiers.channel import GoneError, RateLimitedError, RefusedError, UnreachableError
from notifiers.channels.telegram_text import CAPTION_UNITS, Page, Part, lay_out, one_page, visible
from notifiers.message import Attachment, Button, Message

log = logging.getLogger(__name__)

UPLOAD_TRIES = 3
"""How often an upload may fail with the network before its text goes without it."""

LABEL_CHARACTERS = 64

_NO_PREVIEW = LinkPreviewOptions(is_disabled=True)
_T = TypeVar("_T")


@dataclass(slots=True)
class _Progress:
    """How far a message has come that needs several of Telegram's."""

    message: Message
    reply_to: str
    sent: list[str] = field(default_factory=list)
    failed_uploads: int = 0


class TelegramChannel:
    """One chat, or one topic of a forum; see `Channel` for what its methods promise.

    A message of which only some parts were sent goes on from there when it is the next to be sent again.
    """

    def __init__(self, *, bot: Bot, chat_id: int, topic_id: int | None = None) -> None:
        self._bot = bot
        self._chat_id = chat_id
        self._topic_id = topic_id
        self._name = f"telegram:{chat_id}" if topic_id is None else f"telegram:{chat_id}:{topic_id}"
        self._unfinished: _Progress | None = None

    @property
    def name(self) -> str:
        """The chat's id after the platform's name, then the topic's id where it has one."""
        return self._name

    async def send(self, message: Message, *, reply_to: str = "", broadcast: bool = False) -> str:
        """Send a message and return the id of that of its parts which has the buttons.

        A long block goes as a file. A picture that is refused goes as a file too, or else a line says that it
        is missing: the text arrives in any case.
        """
        del broadcast  # everybody in a chat sees everything
        progress = self._unfinished
        if progress is None or (progress.message, progress.reply_to) != (message, reply_to):
            progress = _Progress(message, reply_to)
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
        """Put as much of `message` as one page holds in the place of one sent before; files are left out."""
        markup = {"message_id": int(message_id), "reply_markup": _keyboard(message)}
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

    async def pin(self, message_id: str) -> None:
        """Pin a message without a sound, where that is allowed."""
        try:
            await self._call(
                self._bot.pin_chat_message, message_id=int(message_id), disable_notification=True
            )
        except RefusedError as error:
            log.info("%s: a message could not be pinned: %s", self._name, error)

    async def _send_part(self, part: Part, progress: _Progress) -> str:
        first = not progress.sent
        options = {
            # One message makes one sound and answers once, however many parts it has.
            "disable_notification": progress.message.silent or not first,
            "reply_parameters": _reply(progress.reply_to) if first else None,
            "reply_markup": _keyboard(progress.message) if part.buttons else None,
        }
        if part.file is not None:
            try:
                return await self._upload(part.file, part.page, progress, options)
            except RefusedError as error:
                log.warning("%s: %s could not be sent: %s", self._name, part.file.name, error)
                page = part.page.note(_missing(part.file))
        else:
            page = part.page
        return await self._post(
            self._bot.send_message, "text", page, link_preview_options=_NO_PREVIEW, **options
        )

    async def _upload(
        self, file: Attachment, caption: Page, progress: _Progress, options: dict[str, Any]
    ) -> str:
        """Send a file, a picture as such where Telegram takes it. RefusedError where it cannot be sent."""
        try:
            if _is_picture(file):
                try:
                    return await self._post(
                        self._bot.send_photo,
                        "caption",
                        caption,
                        photo=file.content,
                        filename=file.name,
                        **options,
                    )
                except RefusedError as error:
                    log.info("%s: %s goes as a file: %s", self._name, file.name, error)
            return await self._post(
                self._bot.send_document,
                "caption",
                caption,
                document=file.content,
                filename=file.name,
                **options,
            )
        except UnreachableError as error:
            progress.failed_uploads += 1
            if progress.failed_uploads < UPLOAD_TRIES:
                raise
            raise RefusedError(f"{progress.failed_uploads} uploads failed: {error}") from error

    async def _post(self, send: Callable[..., Awaitable[Any]], part: str, page: Page, **options: Any) -> str:
        """Send something new into the topic, or into the chat where the topic is no more."""
        try:
            sent = await self._say(send, part, page, message_thread_id=self._topic_id, **options)
        except RefusedError as error:
            if self._topic_id is None or "message thread not found" not in str(error).lower():
                raise
            log.warning("%s: the topic is gone; its messages go to the chat itself", self._name)
            self._topic_id = None
            sent = await self._say(send, part, page, **options)
        return str(sent.message_id)

    async def _say(self, do: Callable[..., Awaitable[_T]], part: str, page: Page, **options: Any) -> _T:
        """Call a method with a page as HTML, or as plain text where that is refused."""
        try:
            return await self._call(do, **{part: page.html}, parse_mode=ParseMode.HTML, **options)
        except RefusedError as error:
            if "can't parse entities" not in str(error).lower():
                raise
            log.warning("%s: sent without markup: %s", self._name, error)
            return await self._call(do, **{part: page.plain}, **options)

    async def _call(self, do: Callable[..., Awaitable[_T]], **options: Any) -> _T:
        with _as_channel_errors():
            try:
                return await do(chat_id=self._chat_id, **options)
            except ChatMigrated as moved:
                self._chat_id = moved.new_chat_id
                log.warning(
                    "%s: the group has a new id, %d: put it into TELEGRAM_CHAT_IDS", self._name, self._chat_id
                )
                return await do(chat_id=self._chat_id, **options)


@contextmanager
def _as_channel_errors() -> Iterator[None]:
    try:
        yield
    except RetryAfter as error:
        wait = error.retry_after
        raise RateLimitedError(wait.total_seconds() if isinstance(wait, timedelta) else wait) from error
    except (BadRequest, Forbidden) as error:
        gone = any(
            sign in error.message.lower() for sign in ("message to edit not found", "message_id_invalid")
        )
        raise (GoneError if gone else RefusedError)(error.message) from error
    except TelegramError as error:
        # A refused token is no refusal of the message: a proxy may have said so, and a token can be mended.
        if "Too Large" in error.message:  # 413, which the library takes for a failure of the network
            raise RefusedError(error.message) from error
        raise UnreachableError(error.message) from error


def _reply(message_id: str) -> ReplyParameters | None:
    return ReplyParameters(int(message_id), allow_sending_without_reply=True) if message_id else None


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
