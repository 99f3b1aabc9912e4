"""Answers on Telegram: below what asked, or in the place of what was pressed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from telegram import Bot
from telegram.error import BadRequest, TelegramError

from bot.front import show_answer
from bot.telegram.requests import Asked
from notifiers.channel import RefusedError
from notifiers.channels.telegram import TelegramChannel
from notifiers.message import Message, Reply

log = logging.getLogger(__name__)


class TelegramReplies:
    """Shows the answers to requests through `bot`."""

    def __init__(self, *, bot: Bot, waits: Sequence[float]) -> None:
        self._bot = bot
        self._waits = waits

    async def acknowledge(self, press: str) -> bool:
        """Let a pressed button come to rest; False when Telegram says that the press is long ago.

        That happens when the bot was not there, and is the only sign of it.
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

    async def show(self, asked: Asked, reply: Reply) -> None:
        """Show an answer; one that Telegram does not take is given up with a line in the log."""
        place = int(asked.request.sender.place)
        channel = TelegramChannel(bot=self._bot, chat_id=place, topic_id=asked.topic)
        await show_answer(lambda: _show(channel, asked, reply), asked.request, self._waits)


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
