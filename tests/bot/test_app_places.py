"""The whole bot, as a process, where Telegram pairs a chat, and in a group with a topic for each run."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bot.commands.pairing import START
from loop.experiment import RunState, Stage
from tests.bot.real_bot import Process, gated, read_until
from tests.bot.test_app_chats import ANN, World, world
from tests.servers.telegram_api import DATE, Chat, Post

__all__ = ["world"]

EVE, GROUP = 666, -1001


@pytest.fixture
def telegram(world: World) -> World:
    """The world without Slack, and with nobody listed."""
    for name in [*world.bot.environment]:
        if name.startswith("SLACK_") or name == "TELEGRAM_CHAT_IDS":
            del world.bot.environment[name]
    return world


@asynccontextmanager
async def pairing(world: World) -> AsyncIterator[tuple[Process, str]]:
    """The bot, and the code that it shows in its terminal."""
    async with world.running() as process:
        seen = await asyncio.to_thread(read_until, process, "/pair ")
        yield process, seen.split("/pair ")[1].split()[0]


async def test_a_code_from_the_terminal_lets_one_chat_steer_until_the_bot_ends(telegram: World) -> None:
    api = telegram.telegram.api
    api.chats[EVE] = Chat(EVE)
    gate = gated(telegram.bot)
    async with pairing(telegram) as (process, code):
        api.say("/status")
        api.say("/start")
        start = await telegram.said(START)
        assert start.text.endswith(f"TELEGRAM_CHAT_IDS={ANN}")
        api.say("/pair 12")
        await telegram.said("Wrong code")
        api.say(f"/pair {code}")
        await telegram.said("Paired until the bot is restarted")
        said = await asyncio.to_thread(read_until, process, " is paired, ")
        assert f"chat {ANN} is paired, by Ada No. 7 (user {ANN})" in said
        api.say("/health")
        assert "no chat is listed" not in (await telegram.said("Health")).text
        api.say(f"/pair {code}", user=EVE, chat=EVE)
        api.say("/start", user=EVE, chat=EVE)
        api.say("/start_run toy go")
        card = await telegram.said("Run toy: running")
        assert ["/pause", "/skip", "/stop"] in card.buttons
        gate.touch()
        await telegram.said("Experiment #0: baseline")
        api.press(card, data="/pause")
        await telegram.until(lambda journal: journal.runs()[0].state is not RunState.RUNNING)
    assert not [post for post in api.posts if post.chat == EVE]
    told = len(api.posts)
    async with pairing(telegram) as (_, other):
        assert other != code
        api.say("/status")
        api.say("/start")
        assert START in (await api.posted(told + 1))[-1].text
    assert len(api.posts) == told + 1
    telegram.bot.environment["TELEGRAM_CHAT_IDS"] = str(ANN)  # the line that it gave
    async with telegram.running():
        api.say("/resume")
        await telegram.said("Run toy continues")
        api.say("/stop", date=int(time.time()))
        api.press(await telegram.said("Stop run toy for good?"))
        await telegram.until(lambda journal: journal.runs()[0].state is RunState.STOPPED)
    async with telegram.running() as process:
        said = await asyncio.to_thread(read_until, process, "/start_run starts another")
        assert "Run toy: was stopped at " in said


async def test_each_run_has_a_topic_with_its_messages_and_answers_about_it(telegram: World) -> None:
    api = telegram.telegram.api
    group = api.chats[GROUP] = Chat(GROUP, "supergroup", forum=True, may_manage=True)
    settings = {"TELEGRAM_CHAT_IDS": str(GROUP), "TELEGRAM_USER_IDS": str(ANN), "TELEGRAM_TOPICS": "run"}
    telegram.bot.environment |= settings
    gate = gated(telegram.bot)

    def in_topic(tag: str) -> list[Post]:
        topics = [topic for topic, title in group.titles.items() if title == tag]
        return [post for post in api.posts if post.topic in topics]

    async def answered(text: str, tag: str) -> str:
        """Say something in the topic of a run, and return the answer, which is there too."""
        [topic] = [number for number, title in group.titles.items() if title == tag]
        asked = api.say(text, chat=GROUP, message_thread_id=topic, is_topic_message=True)["message"]
        answer = await telegram.post(lambda post: post.reply_to == asked["message_id"])
        assert answer.topic == topic
        return answer.text

    async with telegram.running():
        api.say("/start_run first go", chat=GROUP)
        await api.until(lambda: in_topic("first"))
        gate.touch()
        await telegram.said("Experiment #0: baseline")
        await telegram.said("Experiment #1: ")
        gate.unlink()
        await telegram.until(lambda journal: [e.stage for e in journal.undecided(1)] == [Stage.TRAINING])
        api.say("/stop", chat=GROUP, date=int(time.time()))
        api.press(await telegram.said("Stop run first for good?"))
        await telegram.until(lambda journal: journal.runs()[0].state is RunState.STOPPED)
        api.say("/start_run second go", chat=GROUP)
        await api.until(lambda: in_topic("second"))
        assert (await answered("/status", "first")).startswith("Run first: stopped")
        assert (await answered("/status", "second")).startswith("Run second: running")
        assert "run first, and commands steer run second" in await answered("/pause", "first")
        old = next(post for post in in_topic("first") if post.text.startswith("Experiment #1: "))
        query = api.press(old, data="/never 1")
        await api.until(lambda: query in api.answered)
        assert "run first, and commands steer run second" in api.answered[query]
        topics = set(group.titles)
    gate.touch()
    async with telegram.running():  # the second run goes on in its topic
        await api.until(
            lambda: [post for post in in_topic("second") if post.text.startswith("Experiment #0: ")]
        )
        assert set(group.titles) == topics
    digests = [post for post in api.posts if re.match(r"Experiment #\d+: ", post.text)]
    assert digests
    assert all(post.topic for post in digests)


async def test_a_group_that_becomes_a_supergroup_is_steered_by_the_same_people_after_a_restart_too(
    telegram: World,
) -> None:
    api = telegram.telegram.api
    old, new, stranger = -5, -1005, 8
    api.chats[old] = Chat(old, "group")
    telegram.bot.environment |= {"TELEGRAM_CHAT_IDS": str(old), "TELEGRAM_USER_IDS": str(ANN)}
    gate = gated(telegram.bot)

    async def said(text: str) -> Post:
        return await telegram.post(lambda post: post.chat == new and post.text.startswith(text))

    async with telegram.running():
        api.say("/start_run toy go", chat=old)
        await telegram.said("Run toy: running")
        await telegram.until(lambda journal: [e.stage for e in journal.undecided(1)] == [Stage.TRAINING])
        api.chats[new], api.chats[old].moved_to = Chat(new, "supergroup"), new
        moved = {"message_id": 901, "date": DATE, "chat": {"id": new, "type": "supergroup"}}
        api.update(message={**moved, "migrate_from_chat_id": old})
        ignored = [api.say("/pause", chat=new, user=stranger)["message"]["message_id"]]
        api.say("/pause", chat=new)
        assert (await said("Run toy pauses after the current experiment")).reply_to
        gate.touch()
        await said("Experiment #0: baseline")
        await telegram.until(lambda journal: journal.runs()[0].state is RunState.PAUSED)
    async with telegram.running():  # the settings have the old id
        await said("Run toy: paused since")
        ignored += [api.say("/resume", chat=new, user=stranger)["message"]["message_id"]]
        api.say("/resume", chat=new)
        await said("Run toy continues")
        await said("Experiment #1: ")
    assert not [post for post in api.posts if post.reply_to in ignored]
