"""A Slack channel as a place for messages."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook.async_client import AsyncWebhookClient

from loop.errors import UserError
from loop.text import clean, one_line
from notifiers.channels.network import bypasses_proxy, check_certificates, checked_proxy, is_socks
from notifiers.message import (
    Attachment,
    Button,
    ChannelError,
    GoneError,
    Message,
    RateLimitedError,
    RefusedError,
    UnreachableError,
)
from notifiers.text.words import plural

BASE_URL = "https://slack.com/api/"
BLOCK_TEXT = 3000  # UTF-16 units in one block, as all lengths of text here

log = logging.getLogger(__name__)

Block: TypeAlias = dict[str, Any]
_T = TypeVar("_T")

_TEXT = 6000  # of a message; with the block in fixed width well below the 12,000 of a whole message
_PLAIN = 3900  # of the copy for notifications; Slack splits a message from 4,000
_NOTE = 300
_LABEL = 75  # of a button
_ALT = 1000  # of a picture's description
_LEFT_OUT = 40  # for the line that says how much is left out
_ROW = 25  # buttons
_ROWS = 40  # with the blocks of text fewer than the 50 that a message may have
_RETRY_AFTER = 30.0  # seconds, where Slack does not say
_FILE_WAIT = 60.0  # seconds that a file may wait for a rate limit
_HALF_ENTITY = re.compile(r"&[a-z]{0,3}$")

# Slack's names for what went wrong.
_BUSY = frozenset({"ratelimited", "rate_limited", "message_limit_exceeded"})
_IN_TROUBLE = frozenset({"fatal_error", "internal_error", "service_unavailable", "request_timeout"})
_GONE = frozenset(
    {
        "message_not_found",
        "thread_not_found",
        "cannot_reply_to_message",
        "cant_update_message",
        "edit_window_closed",
    }
)
_FIXES = {
    "not_in_channel": "invite the bot to the channel",
    "channel_not_found": "give the channel's id (C…) and invite the bot if it is private",
    "is_archived": "the channel is archived",
    "missing_scope": "install the app again with the scopes of its manifest",
    "invalid_auth": "the token is not valid",
    "token_revoked": "the token was revoked",
    "account_inactive": "the app was removed from the workspace",
}
_NO_MEMBER = frozenset({"not_in_channel", "channel_not_found"})
_BAD_BLOCKS = frozenset({"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long"})


class SlackRefusedError(RefusedError):
    """Slack's `ok: false`; `word` is its name for the reason."""

    def __init__(self, word: str) -> None:
        super().__init__(f"{word}: {_FIXES[word]}" if word in _FIXES else word)
        self.word = word


class SlackGoneError(SlackRefusedError, GoneError):
    """Slack's `ok: false` for a message that cannot be edited or answered (any more)."""


def make_client(token: str, base_url: str = BASE_URL) -> AsyncWebClient:
    """Return a client of the Web API.

    It retries once after a broken connection. It does not wait for a rate limit: the sender decides.

    Raises:
        UserError: the environment names a proxy or certificates that cannot be used.
    """
    check_certificates()
    client = AsyncWebClient(token=token, base_url=base_url)
    if client.proxy and bypasses_proxy(base_url):
        client.proxy = None
    elif client.proxy and is_socks(client.proxy):
        raise UserError("Slack cannot be reached through a SOCKS proxy: set HTTPS_PROXY to an HTTP proxy.")
    elif client.proxy:
        client.proxy = checked_proxy(client.proxy)
    return client


@contextmanager
def slack_errors() -> Iterator[None]:
    """Turn what Slack's client raises into a `ChannelError`."""
    try:
        yield
    except SlackApiError as error:
        raise _from_answer(error.response) from None
    except (SlackClientError, aiohttp.ClientError, OSError, ValueError, AttributeError) as error:
        # ValueError and AttributeError: the client trips over an answer that is no JSON object.
        detail = str(error) if isinstance(error, OSError) else ""
        raise UnreachableError(f"no answer from Slack ({detail or type(error).__name__})") from None


async def respond(url: str, body: Mapping[str, Any]) -> None:
    """Answer at the URL of a slash command or a press, which takes 5 answers within 30 minutes.

    Raises:
        ChannelError: Slack did not take it.
    """
    client = AsyncWebhookClient(url)
    if bypasses_proxy(url):
        client.proxy = None
    with slack_errors():
        response = await client.send_dict(dict(body))
    if response.status_code == 429:
        raise RateLimitedError(_retry_after(response.headers))
    if response.status_code >= 500:
        raise UnreachableError(f"Slack answered {response.status_code}")
    if response.status_code != 200 or response.body.startswith("{"):
        raise SlackRefusedError(_word(response.body) or f"Slack answered {response.status_code}")


def _from_answer(response: Any) -> Exception:
    """Return the error for an answer: Slack's own, or aiohttp's where the body was no JSON."""
    status = int(getattr(response, "status_code", 0) or getattr(response, "status", 0))
    data = getattr(response, "data", None)
    word = str(data.get("error") or "") if isinstance(data, dict) else ""
    if status == 429 or word in _BUSY:
        return RateLimitedError(_retry_after(response.headers))
    if not word or status >= 500 or word in _IN_TROUBLE:  # an answer without a word is not Slack's
        return UnreachableError(f"Slack answered {status} {word}".rstrip())
    return SlackGoneError(word) if word in _GONE else SlackRefusedError(word)


def _word(body: str) -> str:
    """Return the reason in a refused answer: its one word, or its `error`."""
    found = re.search(r'"error"\s*:\s*"(\w+)"', body) or re.match(r"\s*(\w+)\s*$", body)
    return found[1] if found else ""


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        return max(1.0, float(headers.get("Retry-After", _RETRY_AFTER)))
    except ValueError:
        return _RETRY_AFTER


@dataclass(frozen=True, slots=True)
class Rendered:
    """Blocks, the same as escaped plain text for notifications, and all of a text that did not fit."""

    blocks: list[Block]
    text: str
    file: str = ""


def as_typed(message: Message, verbs: Collection[str]) -> Message:
    """Return the message with `/status` as it is typed on Slack: `/autoresearch status`."""
    if not verbs:
        return message
    command = re.compile(rf"(?<![\w/.~-])/(?=(?:{'|'.join(map(re.escape, verbs))})\b(?!/|[.-]\w))")
    text, block = (command.sub("/autoresearch ", part) for part in (message.text, message.block))
    return replace(message, text=text, block=block)


def render(message: Message, *, note: str = "") -> Rendered:
    """Return a message in blocks; `note` is a small line below it, such as who asked."""
    text, fixed = clean(message.text).strip("\n"), clean(message.block).strip("\n")
    note = shorten(clean(note), _NOTE)
    shown_text, shown_fixed = shorten(text, _TEXT), shorten(fixed, BLOCK_TEXT)
    blocks = [_rich("rich_text_section", piece) for piece in _pieces(shown_text)]
    if shown_fixed.strip():
        blocks.append(_rich("rich_text_preformatted", shown_fixed))
    if note.strip():
        blocks.append({"type": "context", "elements": [{"type": "plain_text", "text": note}]})
    rows = [row[start : start + _ROW] for row in message.buttons for start in range(0, len(row), _ROW)]
    blocks += [_actions(row, number) for number, row in enumerate(rows[:_ROWS])]
    cut = [fixed] if shown_fixed != fixed else []
    if shown_text != text:
        cut = [text, fixed]
    copy = "\n".join(filter(str.strip, (text, shown_fixed, note)))
    return Rendered(blocks, plain(copy), "\n\n".join(cut).strip("\n"))


def plain(text: str) -> str:
    """Return text escaped as Slack's markup asks (`&`, `<` and `>`, nothing else), cut, never empty."""
    escaped = clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    if not escaped.strip():
        return "…"
    return shorten(escaped, _PLAIN, unfinished=_HALF_ENTITY)


def shorten(text: str, limit: int, *, unfinished: re.Pattern[str] | None = None) -> str:
    """Return clean text of at most `limit` units, cut at the end of a line where possible.

    The last line then says how many are left out. What `unfinished` finds before the cut is dropped.
    """
    if _units(text) <= limit:
        return text
    head = _head(text, limit - _LEFT_OUT)
    left = text[len(head) :].strip("\n").count("\n") + 1
    if unfinished is not None:
        head = unfinished.sub("", head)
    return f"{head}\n… and {plural(left, 'more line')}"


def _pieces(text: str) -> list[str]:
    pieces = []
    while text.strip():
        pieces.append(_head(text, BLOCK_TEXT))
        text = text[len(pieces[-1]) :].removeprefix("\n")
    return pieces


def _head(text: str, limit: int) -> str:
    if _units(text) <= limit:
        return text
    head = text.encode("utf-16-le")[: 2 * limit].decode("utf-16-le", "ignore")
    lines = head.rpartition("\n")[0]
    return lines if lines.strip() else head


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _rich(kind: str, text: str) -> Block:
    return {"type": "rich_text", "elements": [{"type": kind, "elements": [{"type": "text", "text": text}]}]}


def _actions(row: Sequence[Button], number: int) -> Block:
    buttons = [
        {
            "type": "button",
            "action_id": f"command {number}.{column}",
            "text": {"type": "plain_text", "text": _label(button)},
            "value": button.command,
        }
        for column, button in enumerate(row)
    ]
    return {"type": "actions", "elements": buttons}


def _label(button: Button) -> str:
    return _head(one_line(button.label) or one_line(button.command), _LABEL) or "…"


class SlackChannel:
    """A `Channel` on Slack. `channel_id` is an id such as C024BE91L; message ids are Slack's `ts`.

    The text is sent first, without files: a refused file does not take the text with it.
    """

    def __init__(
        self, *, client: AsyncWebClient, channel_id: str, verbs: Collection[str] = frozenset()
    ) -> None:
        self._client = client
        self._verbs = verbs
        self._id = channel_id
        self.name = f"slack:{channel_id}"

    async def send(
        self, message: Message, *, reply_to: str = "", broadcast: bool = False, note: str = ""
    ) -> str:
        """Send a message and return its id; files, and a text that is too long, go into its thread."""
        rendered = render(as_typed(message, self._verbs), note=note)

        async def post(**content: Any) -> str:
            answer = await self._client.chat_postMessage(
                channel=self._id,
                thread_ts=reply_to or None,
                reply_broadcast=broadcast if reply_to else None,
                mrkdwn=False,
                unfurl_links=False,
                unfurl_media=False,
                **content,
            )
            return str(answer["ts"])

        sent = await self._as_member(lambda: blocks_or_text(post, rendered))
        files = [Attachment("whole.txt", rendered.file.encode())] if rendered.file else []
        for file in (*files, *message.attachments):
            await self._attach(file, thread=reply_to or sent)
        return sent

    async def edit(self, message_id: str, message: Message, *, note: str = "") -> None:
        async def update(**content: Any) -> str:
            answer = await self._client.chat_update(channel=self._id, ts=message_id, **content)
            return str(answer["ts"])

        await blocks_or_text(update, render(as_typed(message, self._verbs), note=note))

    async def pin(self, message_id: str) -> None:
        try:
            with slack_errors():
                await self._client.pins_add(channel=self._id, timestamp=message_id)
        except ChannelError as error:
            log.info("%s: the message could not be pinned: %s", self.name, error)

    async def _attach(self, file: Attachment, *, thread: str) -> None:
        """Upload a file into a thread, or write there that it could not be sent."""

        async def upload() -> str:
            with slack_errors():
                await self._client.files_upload_v2(
                    channel=self._id,
                    thread_ts=thread,
                    filename=file.name,
                    content=file.content,
                    alt_txt=file.alt[:_ALT] or None,
                )
            return thread

        try:
            try:
                await self._as_member(upload)
            except RateLimitedError as limit:
                await asyncio.sleep(min(limit.seconds, _FILE_WAIT))
                await self._as_member(upload)
        except ChannelError as error:
            log.warning("%s: %s could not be sent: %s", self.name, file.name, error)
            text = plain(f"{file.name} could not be sent: {error}")
            with suppress(ChannelError), slack_errors():
                await self._client.chat_postMessage(
                    channel=self._id, thread_ts=thread, text=text, mrkdwn=False
                )

    async def _as_member(self, action: Callable[[], Awaitable[str]]) -> str:
        """Do something; if only members may, join the channel and do it again."""
        try:
            return await action()
        except SlackRefusedError as error:
            if error.word not in _NO_MEMBER:
                raise
            try:
                with slack_errors():
                    await self._client.conversations_join(channel=self._id)
            except RefusedError:  # a private channel, or no right to join
                raise error from None
        return await action()


async def blocks_or_text(show: Callable[..., Awaitable[_T]], rendered: Rendered) -> _T:
    """Call `show` with the `text` and `blocks` of a message, and without blocks if Slack refuses them."""
    try:
        with slack_errors():
            return await show(text=rendered.text, blocks=rendered.blocks)
    except SlackRefusedError as error:
        if error.word not in _BAD_BLOCKS:
            raise
        log.warning("Slack refused the blocks of a message (%s); sent as plain text", error.word)
    with slack_errors():
        return await show(text=rendered.text, blocks=[])
