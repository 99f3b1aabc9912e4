"""The app's Home tab: how the run stands, its best experiment, the chart, and buttons."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any

from slack_sdk.web.async_client import AsyncWebClient

from bot.commands.access import AllowList, Request, Role, Sender
from bot.commands.table import pressable
from bot.front import Answer
from bot.slack.answers import menu, turned_away
from bot.slack.requests import HOME, NAME, VERBS, AskedOnSlack
from loop.files import place
from loop.process.worker import in_thread
from notifiers.channels.slack import SlackRefusedError, delete_picture, slack_errors, upload_picture
from notifiers.channels.slack_blocks import Block, Picture, as_typed, render
from notifiers.message import Attachment, ChannelError, Message, RateLimitedError, Reply

log = logging.getLogger(__name__)

MOST_TABS = 20  # tabs kept up to date, those opened last: at most 40 a minute of the 100 that Slack takes
OPEN_SECONDS = 12 * 3600.0  # that a tab is kept up to date after it was opened; Slack tells of no end
CHART_SECONDS = 300.0  # between two charts at least: drawing one takes seconds of a processor that trains
_ALREADY_THERE = frozenset({"/status", "/best", "/plot"})  # whose answers stand in the tab anyway
_BLOCKS = 100  # of a view
_BLOCKS_OF_A_PART = 30


@dataclass(slots=True)
class _Tab:
    """A person's tab; `notice` is the last answer in it, `shown` what it says, None if that is not known."""

    sender: Sender
    opened_at: float
    notice: Reply | None = None
    shown: list[Block] | None = None


@dataclass(eq=False)
class Home:
    """Fills the tab of everybody who opens it and may read, and keeps those opened last up to date.

    Which these are stands in the file `kept`, for the next bot. `interval` is from one look at the runs to
    the next, in seconds.
    """

    client: AsyncWebClient
    _: KW_ONLY
    answer: Answer
    allowed: AllowList
    kept: Path
    interval: float

    def __post_init__(self) -> None:
        self._tabs: dict[str, _Tab] = {}  # by user, the one opened last at the end
        self._any = asyncio.Event()  # a tab is kept up to date
        self._lock = asyncio.Lock()
        self._pause_until = 0.0
        self._picture: Picture | None = None
        self._charted: Message | None = None  # the last result that the picture shows
        self._charted_at = float("-inf")
        self._warned = False

    async def opened(self, sender: Sender) -> None:
        if self.allowed.role_of(sender) is None:
            if self.allowed.users or self.allowed.places:
                await self._publish(sender, turned_away(self.allowed, sender).blocks)
            return
        before = self._tabs.pop(sender.user, None)
        self._tabs[sender.user] = _Tab(sender, time.time(), shown=before.shown if before else None)
        for user in [*self._tabs][:-MOST_TABS]:
            del self._tabs[user]
        self._any.set()
        await self._refresh(self._tabs[sender.user])
        await in_thread(self._keep, {tab.sender: tab.opened_at for tab in self._tabs.values()})
        await self._draw(sender)

    async def show(self, asked: AskedOnSlack, reply: Reply) -> None:
        """Show an answer in the tab whose button was pressed."""
        sender = asked.request.sender
        tab = self._tabs.setdefault(sender.user, _Tab(sender, time.time()))
        self._any.set()
        if reply.message.attachments and not reply.refused:
            await self._put(reply.message.attachments[0])
        tab.notice = None if f"/{asked.verb}" in _ALREADY_THERE and not reply.refused else reply
        tab.shown = None  # so that a press is seen to do something
        await self._refresh(tab)

    async def run(self) -> None:
        """Keep the tabs up to date until cancelled, those of the bot before this one too."""
        before = await in_thread(self._read)  # some may have been opened anew meanwhile
        self._tabs = {sender.user: _Tab(sender, at) for sender, at in before.items()} | self._tabs
        if self._tabs:
            self._any.set()
        while True:
            await self._any.wait()
            await asyncio.sleep(self.interval)
            try:
                await self._look()
            except Exception:  # a tab that fails once is logged, and shown again at the next look
                log.exception("the Home tabs were not brought up to date")

    def _keep(self, opened: Mapping[Sender, float]) -> None:
        rows = [[one.user, one.place, one.name, at] for one, at in opened.items()]
        try:
            place(self.kept.parent, self.kept.name, json.dumps(rows).encode(), executable=False)
        except OSError as error:
            log.info("%s is not written (%s): a restart forgets who has a Home tab open", self.kept, error)

    def _read(self) -> dict[Sender, float]:
        try:
            rows = json.loads(self.kept.read_bytes())
            found = {Sender(NAME, user, place, name, topic=HOME): float(at) for user, place, name, at in rows}
        except (OSError, ValueError, TypeError):
            return {}
        return {sender: at for sender, at in found.items() if self.allowed.role_of(sender) is not None}

    async def _look(self) -> None:
        now = time.time()
        for user, tab in [*self._tabs.items()]:
            if now - tab.opened_at > OPEN_SECONDS:
                self._tabs.pop(user, None)
        if not self._tabs:
            self._any.clear()
            return
        for tab in [*self._tabs.values()]:
            await self._refresh(tab)
        await self._draw(next(reversed(self._tabs.values())).sender)

    async def _refresh(self, tab: _Tab) -> None:
        """Show in a tab what is new; what Slack does not take now is shown at the next look."""
        async with self._lock:
            blocks = await self._blocks(tab)
            if blocks != tab.shown and await self._publish(tab.sender, blocks):
                tab.shown = blocks

    async def _publish(self, sender: Sender, blocks: list[Block]) -> bool:
        now = time.time()
        if now < self._pause_until:
            return False
        view = {"type": "home", "blocks": [*blocks, dated(now)], "private_metadata": sender.place}
        try:
            with slack_errors():
                await self.client.views_publish(user_id=sender.user, view=view)
        except RateLimitedError as error:
            self._pause_until = now + error.seconds
        except ChannelError as error:
            refused = isinstance(error, SlackRefusedError)
            log.log(logging.WARNING if refused and not self._warned else logging.DEBUG, "Home tab: %s", error)
            self._warned = self._warned or refused
            if refused and self._picture is not None:  # perhaps for it: the rest is shown at the next look
                self._picture, self._charted_at = None, float("inf")
        else:
            return True
        return False

    async def _blocks(self, tab: _Tab) -> list[Block]:
        role = self.allowed.role_of(tab.sender) or Role.VIEWER
        card, best = await self._ask(tab.sender, "/card"), await self._ask(tab.sender, "/best")
        said = [reply for reply in (tab.notice, card) if reply is not None]
        return tab_blocks(said, best, self._picture, role)

    async def _ask(self, sender: Sender, text: str) -> Reply | None:
        return await self.answer(Request(sender, text, key="", sent_at=time.time()))

    async def _draw(self, sender: Sender) -> None:
        """Put the chart into all tabs, if there are new results and the last chart is old enough."""
        now, last = time.time(), self._charted_at
        if now - last < CHART_SECONDS:
            return
        self._charted_at = now  # no other look draws meanwhile
        results = await self._ask(sender, "/results 1")
        if results is None or not results.message.block or results.message == self._charted:
            self._charted_at = last
            return
        chart = await self._ask(sender, "/plot")
        if chart is not None and chart.message.attachments and await self._put(chart.message.attachments[0]):
            self._charted = results.message
            for tab in [*self._tabs.values()]:
                await self._refresh(tab)

    async def _put(self, chart: Attachment) -> bool:
        try:
            picture = await upload_picture(self.client, chart)
        except ChannelError as error:
            log.info("the chart is not shown in Home tabs: %s", error)
            return False
        async with self._lock:  # no tab is being filled with the one before
            before, self._picture = self._picture, picture
        if before is not None:
            await delete_picture(self.client, before)
        return True


def tab_blocks(said: Sequence[Reply], best: Reply | None, picture: Picture | None, role: Role) -> list[Block]:
    """Return what stands in a tab: answers, the best experiment, the chart and buttons for the role."""
    parts = [part(reply, role) for reply in said]
    if best is not None and not best.refused:
        header = {"type": "header", "text": {"type": "plain_text", "text": "Best"}}
        parts.append([header, *part(best, role)])
    if picture is not None:
        parts.append(render(Message(""), pictures=[picture]).blocks)
    return joined([*parts, menu_part(role)])


def part(reply: Reply, role: Role) -> list[Block]:
    """Return an answer as a part of a tab, with the buttons that the role may press."""
    message = replace(pressable(as_typed(reply.message, VERBS), role), attachments=())
    return render(message).blocks[:_BLOCKS_OF_A_PART]


def menu_part(role: Role) -> list[Block]:
    rows = [[one for one in row if one.command not in _ALREADY_THERE] for row in menu(role).buttons]
    return render(Message("", buttons=tuple(tuple(row) for row in rows if row))).blocks


def joined(parts: Sequence[Sequence[Block]]) -> list[Block]:
    blocks = [block for part in parts if part for block in ({"type": "divider"}, *part)]
    return blocks[1:_BLOCKS]


def dated(now: float) -> Block:
    """Return when this was true, in the time zone of who reads it."""
    date: dict[str, Any] = {"type": "date", "timestamp": int(now), "format": "{date_short_pretty} at {time}"}
    date["fallback"] = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
    text = {"type": "text", "text": "updated "}
    return {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": [text, date]}]}
