"""What people on Telegram meet: front end, inbox and channels wired as in the bot, without trainings."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC
from pathlib import Path

import pytest

from bot.commands.handlers import INTRODUCTION
from bot.commands.inbox import Inbox
from bot.commands.pairing import START
from bot.platforms import Chats, access_by
from bot.setup.settings import load_settings
from bot.telegram import TELEGRAM
from loop.experiment import Event, EventKind
from loop.results.report import run_status
from loop.store.outbox import last_sent
from notifiers.delivery.preferences import Preferences, PreferenceStore
from notifiers.delivery.rate_limit import Clock
from notifiers.message import Message
from tests.bot.test_inbox import Office, opened
from tests.servers.telegram_api import TOKEN, Chat
from tests.servers.telegram_server import Answer, TelegramServer, refusal, retry_after, serving

GROUP = -100


class Lab:
    """An office whose people are on Telegram."""

    def __init__(self, office: Office, server: TelegramServer) -> None:
        self.office, self.server, self.api = office, server, server.api
        self.said: list[str] = []  # in the terminal

    @property
    def codes(self) -> list[str]:
        """The codes for pairing that the terminal showed."""
        return re.findall(r"/pair (\d+)", "\n".join(self.said))

    @asynccontextmanager
    async def open(self, **settings: str) -> AsyncIterator[None]:
        """Run the chats with these settings; each time is a bot that was started again."""
        office = self.office
        own = {"TELEGRAM_BOT_TOKEN": TOKEN, "TELEGRAM_BASE_URL": self.server.base_url}
        found = load_settings(Path("/no/such/.env"), {**office.bot.environment, **own, **settings})
        access = access_by(found, (TELEGRAM,))
        preferences = PreferenceStore(office.journal, default=Preferences())
        chats = Chats(
            found,
            access=access,
            journal=office.journal,
            preferences=preferences,
            status=lambda run: run_status(office.journal, run, worktree=office.host.worktree(run.tag)),
            report=_no_report,
            zone=UTC,
            say_here=self.said.append,
            platforms=(TELEGRAM,),
        )
        inbox = Inbox(handlers=office.handlers, access=access, journal=office.journal, now=lambda: office.now)
        task = asyncio.create_task(chats.run(inbox.answer))
        try:
            await self.server.called("setMyCommands")
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})
            self.server.calls.clear()

    async def told(self, text: str, chat: int = 7, topic: int = 0) -> None:
        """Wait for a message that has this in it."""
        await self.api.until(
            lambda: [
                post
                for post in self.api.posts
                if (post.chat, post.topic) == (chat, topic) and text in post.text
            ]
        )


async def _no_report(_: Event) -> Message | None:
    return None


@pytest.fixture
async def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    monkeypatch.setenv("HOME", str(tmp_path))  # the lock of the token is there
    # The loop's clock, which skips what would only be waited for, and not the machine's.
    clock = Clock(now=time.time, monotonic=time.monotonic)
    monkeypatch.setattr("bot.platforms.Clock", lambda: clock)
    async with serving() as server, opened(tmp_path) as office:
        server.api.chats[8] = Chat(8)
        yield Lab(office, server)


async def test_the_first_hour_from_a_phone(lab: Lab) -> None:
    api = lab.api
    async with lab.open():
        api.say("/start", chat=8, user=8)
        await lab.told("TELEGRAM_CHAT_IDS=8", chat=8)
        assert START in api.texts(8)[0]
        api.say("/status")
        api.say("/pair 1")
        await lab.told("Wrong code")
        [code] = lab.codes
        api.say(f"/pair {code}")
        await lab.told("TELEGRAM_CHAT_IDS=7")
        assert sum("chat 7 is paired, by Ada No. 7" in line for line in lab.said) == 1
        assert len(api.texts()) == 2  # the status was a stranger's
        api.say("/start", chat=8, user=8)
        api.say("/start")
        await lab.told(INTRODUCTION)
        assert len(api.texts(8)) == 1
        welcome = api.posts[-1]
        assert welcome.buttons[0][0] == "/start_run"
        run = await asyncio.to_thread(lab.office.host.start_run, "mar12")
        await lab.told("mar12")
        await api.until(lambda: [post for post in api.posts if post.pinned])
        api.press(next(post for post in api.posts if post.pinned), data="/pause")
        await api.until(lambda: lab.office.journal.run_by_id(run.id).state != run.state)
        await api.until(lambda: api.answered)
    async with lab.open():
        assert len(set(lab.codes)) == 2
        before = len(api.posts)
        api.say("/status")
        api.say("/start")
        await lab.told("TELEGRAM_CHAT_IDS=7")
        await api.posted(before + 1)
        assert START in api.posts[-1].text
    async with lab.open(TELEGRAM_CHAT_IDS="7"):
        api.say("/status")
        await api.posted(before + 2)
        assert "mar12" in api.posts[-1].text
        assert len(lab.codes) == 2


async def test_what_is_about_a_listed_topic_stays_in_it_also_after_a_restart(lab: Lab) -> None:
    api, settings = lab.api, {"TELEGRAM_CHAT_IDS": f"{GROUP},{GROUP}/5", "TELEGRAM_USER_IDS": "7"}
    api.chats[GROUP] = Chat(GROUP, "supergroup", topics={5})
    here = {"chat": GROUP, "message_thread_id": 5, "is_topic_message": True}
    async with lab.open(**settings):
        run = await asyncio.to_thread(lab.office.host.start_run, "mar12")
        await api.until(lambda: len(api.posts) == 2 and api.posts[0].pinned)
        api.say("/idea LEARNING_RATE 0.3", **here)
        await lab.told("Idea #1", GROUP, 5)
    async with lab.open(**settings):
        query = api.press(api.posts[0], data="/pause")
        await api.until(lambda: query in api.answered)
        await api.until(lambda: "paused" in api.posts[0].text)
        lab.office.journal.note(run.id, EventKind.NEEDS_ATTENTION, reason="the disk is full")
        await lab.told("the disk is full", GROUP, 5)
        api.say("/status", **here)
        await api.until(lambda: "paused" in api.posts[-1].text)
    assert {(post.chat, post.topic) for post in api.posts} == {(GROUP, 5)}
    *texts, _ = [post.text.splitlines()[0] for post in api.posts]  # the status begins as the card does
    assert len(texts) == len(set(texts)), texts


async def test_a_topic_a_run_holds_all_about_it(lab: Lab) -> None:
    api, settings = lab.api, {"TELEGRAM_CHAT_IDS": f"{GROUP}:operator", "TELEGRAM_TOPICS": "run"}
    api.chats[GROUP] = forum = Chat(GROUP, "supergroup", forum=True, may_manage=True)
    async with lab.open(**settings):
        run = await asyncio.to_thread(lab.office.host.start_run, "mar12")
        await api.until(lambda: len(api.posts) == 2)  # the card, and that it was started
        [topic] = forum.topics
        here = {"chat": GROUP, "message_thread_id": topic, "is_topic_message": True}
        api.say("/idea LEARNING_RATE 0.3", **here)
        await lab.told("Idea #1", GROUP, topic)
        api.say("/notify keeps", **here)
        await lab.told("keeps", GROUP, topic)
        api.say("/pause", **here)
        await lab.told("pause", GROUP, topic)
    async with lab.open(**settings):
        api.say("/retag mar12 wide", **here)
        await lab.told("wide", GROUP, topic)
        await api.until(lambda: forum.titles == {topic: "wide"})
        await api.until(lambda: "wide" in api.posts[0].text)
    texts = [post.text.splitlines()[0] for post in api.posts]
    assert len(texts) == len(set(texts)), texts  # nothing is told twice
    assert {post.topic for post in api.posts} == {topic}
    assert lab.office.journal.run_by_id(run.id).tag == "wide"


async def test_in_a_group_a_press_without_the_right_is_answered_to_who_pressed(lab: Lab) -> None:
    api = lab.api
    api.chats[GROUP] = Chat(GROUP, "supergroup")
    async with lab.open(TELEGRAM_CHAT_IDS=str(GROUP), TELEGRAM_USER_IDS="7,8:viewer"):
        run = await asyncio.to_thread(lab.office.host.start_run, "mar12")
        await api.until(lambda: len(api.posts) == 2 and api.posts[0].pinned)
        api.say("/status", chat=GROUP)
        await api.posted(3)
        query = api.press(api.posts[0], user=8, data="/pause")
        await api.until(lambda: query in api.answered)
        stranger = api.press(api.posts[0], user=666, data="/pause")
        await api.until(lambda: stranger in api.answered)
        api.say("/status", chat=GROUP, user=8)
        await api.posted(4)
    assert "read-only" in api.answered[query]
    assert api.alerts == {query}
    assert api.answered[stranger] == ""
    assert lab.office.journal.run_by_id(run.id).state is run.state
    assert len(api.posts) == 4


@pytest.mark.parametrize(
    "fault",
    [refusal(403, "Forbidden: bot was kicked from the supergroup chat"), retry_after(30)],
    ids=["kicked", "429"],
)
async def test_a_chat_that_takes_nothing_for_a_while_is_told_all_of_it_later(lab: Lab, fault: Answer) -> None:
    api, journal, host = lab.api, lab.office.journal, lab.office.host
    async with lab.open(TELEGRAM_CHAT_IDS="7"):
        await api.until(lambda: journal.cursor("telegram:7") is not None)
        lab.server.fail_always("sendMessage", fault)
        run = await asyncio.to_thread(host.start_run, "mar12")
        await lab.server.called("sendMessage", 3)
        journal.note(run.id, EventKind.NEEDS_ATTENTION, reason="the disk is full")
        await lab.server.called("sendMessage", 6)
        assert api.posts == []
        if fault.status != 429:  # it takes messages, only not now
            assert [last.trouble is not None for last in last_sent(journal)] == [True]
    async with lab.open(TELEGRAM_CHAT_IDS="7"):
        await lab.server.called("sendMessage", 2)
        lab.server.heal()
        await api.posted(3)
        api.say("/id")
        await api.posted(4)
        await api.until(lambda: [last.trouble for last in last_sent(journal)] == [None])
    card, started, call, _ = api.posts
    assert card.text.startswith("Run mar12")
    assert [post.reply_to for post in (started, call)] == [card.id] * 2
    assert "the disk is full" in call.text


async def test_keys_for_the_usual_commands(lab: Lab) -> None:
    api = lab.api
    lists = {"TELEGRAM_CHAT_IDS": f"7,8,{GROUP}", "TELEGRAM_USER_IDS": "7,8:viewer"}
    api.chats[GROUP] = Chat(GROUP, "supergroup")
    async with lab.open(TELEGRAM_KEYBOARD="on", **lists):
        for text in ("/start", "/runs", "/start"):
            api.say(text)
        api.say("/runs", chat=GROUP)
        api.say("/id", chat=8, user=8)
        await api.posted(5)
    first, other, again = (post for post in api.posts if post.chat == 7)
    assert (first.keys, first.buttons) == (
        [["/start_run", "/status", "/results"], ["/plot", "/pause", "/resume"]],
        [],
    )
    assert (other.keys, again.keys) == (None, first.keys)
    assert [post.keys for post in api.posts if post.chat == 8] == [[["/status", "/results", "/plot"]]]
    assert [post.keys for post in api.posts if post.chat == GROUP] == [None]
    api.posts.clear()
    async with lab.open(TELEGRAM_KEYBOARD="off", **lists):
        for text in ("/start", "/runs", "/id"):
            api.say(text)
        await api.posted(3)
    assert [post.keys for post in api.posts] == [None, [], None]  # taken away by the first without buttons
    assert api.posts[0].buttons
