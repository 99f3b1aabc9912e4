"""Answers on Slack: to everybody or to whoever asked, in a thread, or in the place of what was pressed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from slack_sdk.web.async_client import AsyncWebClient

from bot.front import show_answer
from bot.slack.requests import Asked
from notifiers.channel import RefusedError
from notifiers.channels.slack import SlackChannel, blocks_or_text
from notifiers.channels.slack_api import respond
from notifiers.channels.slack_blocks import render
from notifiers.message import Message, Reply


class SlackReplies:
    """Shows the answers to requests.

    Refusals, and answers to the commands in `personal`, are for the eyes of whoever asked; all others are
    public and say who asked. `waits` are the seconds from one attempt to the next while Slack is in trouble.
    """

    def __init__(self, *, client: AsyncWebClient, personal: Collection[str], waits: Sequence[float]) -> None:
        self._client = client
        self._personal = personal
        self._waits = waits

    async def show(self, asked: Asked, reply: Reply) -> None:
        """Show an answer; one that Slack does not take is given up with a line in the log."""
        await show_answer(lambda: self._show(asked, reply), asked.request, self._waits)

    async def _show(self, asked: Asked, reply: Reply) -> None:
        verb = asked.request.text.split()[0].removeprefix("/").lower()
        if reply.replaces and asked.pressed:
            await self._replace(asked, reply.message)
        elif (reply.refused or verb in self._personal) and not asked.private:
            await self._whisper(asked, reply.message)
        else:
            await self._say(asked, reply.message)

    async def _replace(self, asked: Asked, message: Message) -> None:
        try:
            await self._channel(asked).edit(asked.message, message, note=asked.told)
        except RefusedError:  # it is ephemeral, or in a channel that the bot is not in
            await self._respond(asked, message, note=asked.told, replace_original=True)

    async def _whisper(self, asked: Asked, message: Message) -> None:
        if asked.response_url:
            await self._respond(asked, message, response_type="ephemeral", replace_original=False)
            return

        async def post(**content: Any) -> None:
            await self._client.chat_postEphemeral(
                channel=asked.request.sender.place,
                user=asked.request.sender.user,
                thread_ts=asked.thread or None,
                **content,
            )

        await blocks_or_text(post, render(message))

    async def _say(self, asked: Asked, message: Message) -> None:
        thread = asked.thread or ("" if asked.private or asked.ephemeral else asked.message)
        try:
            await self._channel(asked).send(message, reply_to=thread, note=asked.told)
        except RefusedError:
            if not asked.response_url:
                raise
            # Slash commands work in channels that the bot is not in; this way in is open there too.
            await self._respond(
                asked, message, note=asked.told, response_type="in_channel", replace_original=False
            )

    async def _respond(self, asked: Asked, message: Message, *, note: str = "", **kind: Any) -> None:
        if asked.thread:
            kind["thread_ts"] = asked.thread

        async def post(**content: Any) -> None:
            await respond(asked.response_url, {**kind, **content})

        await blocks_or_text(post, render(message, note=note))

    def _channel(self, asked: Asked) -> SlackChannel:
        return SlackChannel(client=self._client, channel_id=asked.request.sender.place)
