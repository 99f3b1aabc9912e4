"""How answers are shown on Slack: to whom, where, and what of them stands in a channel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from slack_sdk.web.async_client import AsyncWebClient

from bot.commands.access import AllowList, Role, Sender
from bot.commands.table import VISIBLE, find_command, with_run
from bot.slack.requests import VERBS, AskedOnSlack
from notifiers.channels.slack import (
    AS_THEY_ARE,
    SlackChannel,
    blocks_or_text,
    respond,
    show_with_pictures,
    slack_errors,
)
from notifiers.channels.slack_blocks import Block, Picture, Rendered, as_typed, render
from notifiers.message import Button, ChannelError, Message, RefusedError, Reply

READING = frozenset(one.name for one in VISIBLE if one.role is Role.VIEWER)
"""Commands that change nothing: in a channel only the person who asked sees the answer, and can share it."""
_PERSONAL = frozenset(
    {"", "help", "id"}
)  # what no one else has a use for; no command is answered by the menu

_MENU = (("status", "results", "best", "plot", "summary"), ("start_run", "idea", "ideas"), ("health", "help"))
WORKING = "Working on it…"
_TAKEN_BACK_WITHIN = 2.0  # seconds, also where the bot is ending
_STEERERS = 5  # people named to a stranger
_SHARED_WHOLE = "Show to all also sends what is left out here as a file."


@dataclass(frozen=True, slots=True)
class Answers:
    """Shows the answers to what people asked.

    Refusals, and answers to commands of `READING` or to /notify alone, which changes nothing, are seen in a
    channel by the person who asked alone. Everything else is public and says who asked.
    """

    client: AsyncWebClient

    async def show(self, asked: AskedOnSlack, reply: Reply) -> None:
        """Show an answer.

        Raises:
            ChannelError: it was not shown.
        """
        message = as_typed(reply.message, VERBS)
        pressed = asked.request.pressed
        if reply.replaces and pressed and not asked.shared:
            await self._replace(asked, message, for_all=reply.for_all)
        elif asked.private:
            await self._say(asked, message)
        elif reply.refused or (pressed and reply.brief):
            await self._whisper(asked, message)
        elif asked.shared:
            await self._say(asked, message)
            await self._take_back(asked)
        elif asked.verb in _PERSONAL:
            await self._whisper(asked, message)
        elif asked.verb in READING or asked.request.text.strip() == "/notify":
            text, run = asked.request.text, reply.run
            await self._whisper(asked, message, share=text if run is None else with_run(text, run))
        else:
            await self._say(asked, message)

    async def show_blocks(self, asked: AskedOnSlack, rendered: Rendered) -> None:
        """Show something to the person who asked, and to nobody else."""
        if asked.response_url:
            await self._respond(asked, rendered, response_type="ephemeral", replace_original=False)
        else:
            await self._post_ephemeral(asked, rendered)

    @asynccontextmanager
    async def shows_work(self, asked: AskedOnSlack) -> AsyncIterator[None]:
        """Show where the answer will be that it takes a while, until that is there.

        The message is one that all see: what only one person sees cannot be taken back. In a channel that the
        bot is not in there is none.
        """
        sign, place = "", asked.request.sender.place
        with suppress(ChannelError), slack_errors():
            content = render(Message(WORKING), note=asked.note)
            posted = await self.client.chat_postMessage(
                channel=place,
                thread_ts=self._thread(asked) or None,
                text=content.text,
                blocks=content.blocks,
                mrkdwn=False,
                **AS_THEY_ARE,
            )
            sign = str(posted["ts"])
        try:
            yield
        finally:
            with suppress(ChannelError, TimeoutError), slack_errors():
                async with asyncio.timeout(_TAKEN_BACK_WITHIN):
                    if sign:
                        await self.client.chat_delete(channel=place, ts=sign)

    async def _replace(self, asked: AskedOnSlack, message: Message, *, for_all: bool) -> None:
        if asked.ephemeral and for_all:  # what all must see does not fit in what one person sees
            await self._say(asked, message)
            await self._take_back(asked)
            return
        try:
            await self._channel(asked).edit(asked.message, message, note=asked.note)
        except RefusedError:  # it is ephemeral, or in a channel that the bot is not in
            await self._respond(asked, render(message, note=asked.note), replace_original=True)

    async def _whisper(self, asked: AskedOnSlack, message: Message, *, share: str = "") -> None:
        async def show(pictures: Sequence[Picture]) -> None:
            left_out = len(message.attachments) > len(pictures) or render(message).file
            note = _SHARED_WHOLE if share and left_out else ""
            rendered = render(message, note=note, pictures=pictures, share=share)
            if pictures:  # the address for answers does not take those of the bot
                await self._post_ephemeral(asked, rendered)
            else:
                await self.show_blocks(asked, rendered)

        try:
            await show_with_pictures(self.client, message.attachments, show)
        except RefusedError:
            if not (message.attachments and asked.response_url):
                raise
            await show(())  # the bot is not in the channel

    async def _post_ephemeral(self, asked: AskedOnSlack, rendered: Rendered) -> None:
        async def post(**content: Any) -> None:
            await self.client.chat_postEphemeral(
                channel=asked.request.sender.place,
                user=asked.request.sender.user,
                thread_ts=asked.thread or None,
                **content,
            )

        await blocks_or_text(post, rendered)

    async def _say(self, asked: AskedOnSlack, message: Message) -> None:
        try:
            await self._channel(asked).send(message, reply_to=self._thread(asked), note=asked.note)
        except RefusedError:
            if not asked.response_url:
                raise
            # Slash commands work in channels that the bot is not in; this way in is open there too.
            shown = render(message, note=asked.note)
            await self._respond(asked, shown, response_type="in_channel", replace_original=False)

    async def _take_back(self, asked: AskedOnSlack) -> None:
        with suppress(ChannelError):
            await respond(asked.response_url, {"delete_original": True})

    async def _respond(self, asked: AskedOnSlack, rendered: Rendered, **kind: Any) -> None:
        if asked.thread:
            kind["thread_ts"] = asked.thread

        async def post(**content: Any) -> None:
            await respond(asked.response_url, {**kind, **content})

        await blocks_or_text(post, rendered)

    def _thread(self, asked: AskedOnSlack) -> str:
        return asked.thread or ("" if asked.private or asked.ephemeral else asked.message)

    def _channel(self, asked: AskedOnSlack) -> SlackChannel:
        return SlackChannel(client=self.client, channel_id=asked.request.sender.place)


# What is said without a command


def menu(role: Role) -> Message:
    """Return the short list of what there is for a person who names no command."""
    rows = [[find_command(name) for name in row] for row in _MENU]
    rows = [[one for one in row if one.role <= role] for row in rows]
    lines = [f"{one.name}: {one.help}" for row in rows for one in row]
    buttons = tuple(tuple(Button(_label(one.name), f"/{one.name}") for one in row) for row in rows)
    return Message(
        "\n".join([*lines, "", "Press a button or type a command, for example /status."]), "", buttons
    )


def _label(name: str) -> str:
    return {"start_run": "Start a run", "idea": "New idea"}.get(name, name.capitalize())


def turned_away(allowed: AllowList, sender: Sender) -> Rendered:
    """Return what a stranger is told: where commands are taken, or whom to ask."""
    listed = sender.user in allowed.users
    places = [{"type": "channel", "channel_id": one} for one in allowed.places if not one.startswith("D")]
    places += [_text("a chat with me")] if listed else []
    if places and (listed or not allowed.users):
        return _line([_text("I take no commands here. Use "), *_joined(places), _text(".")])
    steerers = [user for user, role in allowed.users.items() if role is not Role.VIEWER][:_STEERERS]
    asked = _joined([{"type": "user", "user_id": user} for user in steerers])
    whom = asked or [_text("the person who runs this bot")]
    until = _text(f" to add {sender.user} to {allowed.users_setting}.")
    return _line([_text("You cannot use this bot yet. Ask "), *whom, until])


def _joined(parts: Sequence[Block]) -> list[Block]:
    return [one for part in parts for one in (_text(" or "), part)][1:]


def _line(elements: list[Block]) -> Rendered:
    section = {"type": "rich_text_section", "elements": elements}
    text = "".join(_plain(one) for one in elements)
    return Rendered([{"type": "rich_text", "elements": [section]}], text)


def _text(text: str) -> Block:
    return {"type": "text", "text": text}


def _plain(element: Block) -> str:
    match element["type"]:
        case "user":
            return f"<@{element['user_id']}>"
        case "channel":
            return f"<#{element['channel_id']}>"
        case _:
            return str(element["text"])
