from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC
from pathlib import Path

import pytest
from telegram.ext import ExtBot

from loop.experiment import Run
from loop.results.report import run_status
from loop.store.journal import Journal
from notifiers.channels.telegram import ForumChannel
from notifiers.channels.telegram_wire import make_bot
from notifiers.delivery.delivery import Delivery
from notifiers.delivery.live_card import Forum, LiveCards, RunTopics, no_topic
from notifiers.delivery.rate_limit import Spacing
from tests.notifiers.recording import VirtualTime
from tests.notifiers.stories import call, open_journal, start
from tests.servers.telegram_api import TOKEN, Chat, Post
from tests.servers.telegram_server import TelegramServer, page, retry_after, serving

GROUP = -100


class Lab:
    """A group with topics, and what writes to it; anew after each `restart`."""

    def __init__(self, server: TelegramServer, bot: ExtBot[None], journal: Journal, folder: Path) -> None:
        self.server, self.bot, self.journal, self.folder = server, bot, journal, folder
        self.time = VirtualTime()
        self.forum = server.api.chats[GROUP] = Chat(GROUP, "supergroup", forum=True, may_manage=True)
        self.restart()

    def restart(self) -> None:
        clock = self.time.clock
        channel = ForumChannel(bot=self.bot, chat_id=GROUP)
        assert isinstance(channel, Forum)
        spacing = Spacing(clock=clock)
        self.topics = RunTopics(channel, self.journal, clock=clock)
        cards = LiveCards(
            channel,
            self.journal,
            status=lambda run: run_status(self.journal, run, worktree=self.folder),
            spacing=spacing,
            zone=UTC,
            clock=clock,
            topics=self.topics,
        )
        self.delivery = Delivery(
            channel, self.journal, thread=cards.thread, spacing=spacing, clock=clock, jitter=lambda: 0.0
        )
        self.cards = cards

    async def tell(self, run: Run, reason: str) -> Post:
        call(self.journal, run, reason)
        await self.delivery.catch_up()
        post = self.server.api.posts[-1]
        assert reason in post.text
        return post


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with serving() as server:
        bot = make_bot(TOKEN, server.base_url)
        with open_journal(tmp_path, VirtualTime()) as journal:
            lab = Lab(server, bot, journal, tmp_path)
            await lab.delivery.catch_up()
            yield lab
        await bot.request.shutdown()


async def test_each_run_has_a_topic_also_after_a_restart(lab: Lab) -> None:
    first, second = start(lab.journal), start(lab.journal, "wide")
    here, there = await lab.tell(first, "reason a"), await lab.tell(second, "reason b")
    assert lab.forum.titles == {here.topic: first.tag, there.topic: "wide"}
    lab.restart()
    assert (await lab.tell(first, "reason c")).topic == here.topic
    assert (await lab.tell(second, "reason d")).topic == there.topic
    assert not [post for post in lab.server.api.posts if post.topic == 0]
    assert len(lab.server.answered("createForumTopic")) == 2


async def test_a_card_that_is_deleted_is_made_anew_in_the_topic(lab: Lab) -> None:
    run = start(lab.journal)
    topic = (await lab.tell(run, "reason a")).topic
    [card] = [post for post in lab.server.api.posts if post.pinned or not post.reply_to]
    lab.server.api.deleted.add(card.id)
    await lab.cards.refresh()
    lab.restart()
    await lab.cards.refresh()
    await lab.cards.refresh()
    assert {post.topic for post in lab.server.api.posts} == {topic}
    assert len(lab.server.answered("createForumTopic")) == 1


async def test_a_topic_is_renamed_with_its_run_as_soon_as_that_is_possible(lab: Lab) -> None:
    run = start(lab.journal)
    topic = (await lab.tell(run, "reason a")).topic
    await lab.topics.rename()
    assert not lab.server.answered("editForumTopic")
    run = lab.journal.retag(run, "wide")
    lab.server.fail("editForumTopic", page(502), retry_after(9))
    for _ in range(5):
        await lab.topics.rename()
    assert lab.forum.titles == {topic: "wide"}
    assert len(lab.server.answered("editForumTopic")) == 3
    lab.restart()
    await lab.topics.rename()
    assert (await lab.tell(run, "reason b")).topic == topic
    assert len(lab.server.answered("editForumTopic")) == 3


@pytest.mark.parametrize("forum", [True, False], ids=["no right", "no forum"])
async def test_where_none_can_be_made_the_group_is_told_once_and_gets_all(lab: Lab, forum: bool) -> None:
    lab.forum.may_manage, lab.forum.forum = False, forum
    run = start(lab.journal)
    post = await lab.tell(run, "reason a")
    why = "not enough rights to create a topic" if forum else "the chat is not a forum"
    sentence, card, _started, first = lab.server.api.posts
    assert (sentence.text, sentence.silent) == (no_topic(run.tag, why), True)
    assert (card.topic, first, post.reply_to) == (0, post, card.id)
    lab.restart()
    await lab.tell(run, "reason b")
    assert len(lab.server.api.posts) == 5
    assert len(lab.server.answered("createForumTopic")) == 1


async def test_while_topics_cannot_be_made_nothing_is_told_elsewhere(lab: Lab) -> None:
    lab.server.fail("createForumTopic", page(502), retry_after(9), page(500))
    run = start(lab.journal)
    await lab.tell(run, "reason a")
    assert 0 not in {post.topic for post in lab.server.api.posts}
    assert len(lab.forum.titles) == 1


@pytest.mark.parametrize("trouble", ["closed", "deleted"])
async def test_a_topic_that_takes_nothing_holds_no_other_run_up(lab: Lab, trouble: str) -> None:
    first, second = start(lab.journal), start(lab.journal, "wide")
    topic, other = (await lab.tell(first, "reason a")).topic, (await lab.tell(second, "reason b")).topic
    lab.forum.may_manage = False
    if trouble == "closed":
        lab.forum.closed.add(topic)
    else:
        lab.forum.topics.remove(topic)
        lab.server.api.deleted |= {post.id for post in lab.server.api.posts if post.topic == topic}
    assert (await lab.tell(first, "reason c")).topic == 0
    assert (await lab.tell(second, "reason d")).topic == other
    await lab.cards.refresh()
    await lab.cards.refresh()
    assert lab.delivery.trouble is None
    lab.forum.closed.clear()
    assert (await lab.tell(first, "reason e")).topic == (topic if trouble == "closed" else 0)
    assert lab.forum.titles == {topic: first.tag, other: "wide"}
