"""A Slack channel as a place for messages."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook.async_client import AsyncWebhookClient

from loop.errors import UserError
from notifiers.channels.network import bypasses_proxy, check_certificates, checked_proxy, is_socks
from notifiers.channels.slack_blocks import HALF_ENTITY, Picture, Rendered, as_typed, plain, render, shorten
from notifiers.message import (
    Attachment,
    ChannelError,
    GoneError,
    Message,
    RateLimitedError,
    RefusedError,
    UnreachableError,
)

BASE_URL = "https://slack.com/api/"

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_ALT = 1000  # of a picture's description
_RETRY_AFTER = 30.0  # seconds, where Slack does not say
_FILE_WAIT = 60.0  # seconds that a file may wait for a rate limit
_SHORT = 1000  # of a text where Slack finds a usual one too long
_PICTURE_SECONDS = 20.0  # that a text may wait for its picture
_READY_WAITS = (0.2, 0.4, 0.8, 1.6, 3.2, 6.4)  # seconds between looks whether Slack has read a picture
AS_THEY_ARE: dict[str, Any] = {"unfurl_links": False, "unfurl_media": False}

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
_BAD_BLOCKS = frozenset({"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long", "msg_too_long"})
_NO_THREADS = "restricted_action_non_threadable_channel"


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
        response = await client.send_dict({**AS_THEY_ARE, **body})
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


class SlackChannel:
    """A `Channel` on Slack. `channel_id` is an id such as C024BE91L; message ids are Slack's `ts`.

    Pictures are shown in the message, where Slack takes them. All other files follow in its thread: one that
    is refused does not take the text with it.
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
        typed = as_typed(message, self._verbs)

        async def post(**content: Any) -> str:
            answer = await self._client.chat_postMessage(
                channel=self._id,
                thread_ts=reply_to or None,
                reply_broadcast=broadcast if reply_to else None,
                mrkdwn=False,
                **AS_THEY_ARE,
                **content,
            )
            return str(answer["ts"])

        async def show(pictures: Sequence[Picture]) -> str:
            rendered = render(typed, note=note, pictures=pictures)
            return await self._as_member(lambda: blocks_or_text(post, rendered))

        try:
            sent, files = await show_with_pictures(self._client, message.attachments, show)
        except SlackRefusedError as error:
            if error.word != _NO_THREADS or not reply_to:
                raise
            return await self.send(message, note=note)
        if whole := render(typed).file:
            files = (Attachment("whole.txt", whole.encode()), *files)
        for file in files:
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
                    channel=self._id, thread_ts=thread, text=text, mrkdwn=False, **AS_THEY_ARE
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
    """Call `show` with the `text` and `blocks` of a message, without blocks and then shorter if need be.

    Blocks with pictures are not given up: the caller tries them without first.
    """
    has_pictures = any(block["type"] == "image" for block in rendered.blocks)
    for blocks in (rendered.blocks, []):
        try:
            with slack_errors():
                return await show(text=rendered.text, blocks=blocks)
        except SlackRefusedError as error:
            if error.word not in _BAD_BLOCKS or has_pictures:
                raise
            log.warning("Slack refused the form of a message (%s); it is sent in a plainer one", error.word)
    with slack_errors():
        return await show(text=shorten(rendered.text, _SHORT, unfinished=HALF_ENTITY), blocks=[])


async def show_with_pictures(
    client: AsyncWebClient,
    attachments: Sequence[Attachment],
    show: Callable[[Sequence[Picture]], Awaitable[_T]],
) -> tuple[_T, Sequence[Attachment]]:
    """Call `show` with the pictures among `attachments`, without them if Slack does not take them.

    Return what it returned, and the attachments that it does not show.
    """
    inside: dict[Attachment, Picture] = {}
    for file in attachments:
        if file.name.endswith(".png"):
            with suppress(ChannelError, TimeoutError):  # it is sent as a file then
                async with asyncio.timeout(_PICTURE_SECONDS):
                    inside[file] = await upload_picture(client, file)
    if inside:
        try:
            shown = await show(tuple(inside.values()))
        except ChannelError as error:
            for picture in inside.values():
                await delete_picture(client, picture)
            if not (isinstance(error, SlackRefusedError) and error.word in _BAD_BLOCKS):
                raise
            log.warning("Slack refused a picture in a message (%s); sent as a file", error)
        else:
            return shown, [file for file in attachments if file not in inside]
    return await show(()), attachments


async def upload_picture(client: AsyncWebClient, picture: Attachment) -> Picture:
    """Give Slack a picture, and return it when messages can show it: Slack reads it after the upload.

    Raises:
        ChannelError: it cannot be shown, or not within `_READY_WAITS`.
    """
    alt = picture.alt[:_ALT] or picture.name
    with slack_errors():
        answer = await client.files_upload_v2(filename=picture.name, content=picture.content, alt_txt=alt)
        shown = Picture(str(answer["file"]["id"]), alt)
    try:
        with slack_errors():
            for wait in _READY_WAITS:
                about = await client.files_info(file=shown.file)
                if about["file"].get("mimetype"):
                    return shown
                await asyncio.sleep(wait)
        raise UnreachableError(f"Slack has not read {picture.name} in time")
    except ChannelError:
        await delete_picture(client, shown)
        raise


async def delete_picture(client: AsyncWebClient, picture: Picture) -> None:
    with suppress(ChannelError), slack_errors():
        await client.files_delete(file=picture.file)
