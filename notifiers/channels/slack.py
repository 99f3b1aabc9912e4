"""A Slack channel as a place for messages."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Any, TypeVar

from slack_sdk.web.async_client import AsyncWebClient

from notifiers.channel import ChannelError, RateLimitedError, RefusedError
from notifiers.channels.slack_api import SlackRefusedError, slack_errors
from notifiers.channels.slack_blocks import Rendered, as_typed, plain, render
from notifiers.message import Attachment, Message

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_ALT = 1000  # characters of a picture's description
_PATIENCE = 60.0  # seconds that a file may wait for a rate limit
_NO_MEMBER = frozenset({"not_in_channel", "channel_not_found"})
_BAD_BLOCKS = frozenset({"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long"})


class SlackChannel:
    """A `Channel` on Slack. `channel_id` is an id such as C024BE91L; message ids are Slack's `ts`.

    The text of a message is always sent first, and alone: a file that is refused leaves a line in its place.
    """

    def __init__(
        self, *, client: AsyncWebClient, channel_id: str, verbs: Collection[str] = frozenset()
    ) -> None:
        self._client = client
        self._verbs = verbs
        self._id = channel_id

    @property
    def name(self) -> str:
        """The name under which deliveries are recorded."""
        return f"slack:{self._id}"

    async def send(
        self, message: Message, *, reply_to: str = "", broadcast: bool = False, note: str = ""
    ) -> str:
        """Send a message and return its id; what is too long for one goes as a file into its thread.

        With `reply_to` it goes into that message's thread, with `broadcast` into the channel as well. `note`
        is a small line under it.
        """
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
        """Put `message`, without its attachments, in the place of one sent before."""

        async def update(**content: Any) -> str:
            answer = await self._client.chat_update(channel=self._id, ts=message_id, **content)
            return str(answer["ts"])

        await blocks_or_text(update, render(as_typed(message, self._verbs), note=note))

    async def pin(self, message_id: str) -> None:
        """Pin a message if Slack lets us."""
        try:
            with slack_errors():
                await self._client.pins_add(channel=self._id, timestamp=message_id)
        except ChannelError as error:
            log.info("%s: not pinned: %s", self.name, error)

    async def _attach(self, file: Attachment, *, thread: str) -> None:
        """Upload a file into a thread, or say there that it could not be sent."""

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
                await asyncio.sleep(min(limit.seconds, _PATIENCE))
                await self._as_member(upload)
        except ChannelError as error:
            log.warning("%s: %s was not sent: %s", self.name, file.name, error)
            await self._apologise(f"{file.name} could not be sent: {error}", thread=thread)

    async def _apologise(self, sentence: str, *, thread: str) -> None:
        try:
            with slack_errors():
                await self._client.chat_postMessage(
                    channel=self._id, thread_ts=thread, text=plain(sentence), mrkdwn=False
                )
        except ChannelError as error:
            log.info("%s: nor could that be said: %s", self.name, error)

    async def _as_member(self, action: Callable[[], Awaitable[str]]) -> str:
        """Do something that may need membership; join the channel and do it again where it does."""
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
    """Show a message in blocks, and as plain text where Slack does not like them.

    `show` takes `text` and `blocks`, and what it raises becomes a `ChannelError`.
    """
    try:
        with slack_errors():
            return await show(text=rendered.text, blocks=rendered.blocks)
    except SlackRefusedError as error:
        if error.word not in _BAD_BLOCKS:
            raise
        log.warning("Slack did not take the blocks of a message (%s): sent as plain text", error.word)
    with slack_errors():
        return await show(text=rendered.text, blocks=[])
