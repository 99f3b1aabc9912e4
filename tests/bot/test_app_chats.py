"""The whole bot, as a process, living with Telegram and Slack on loopback."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from urllib.parse import urlencode

import psutil
import pytest

from loop.errors import UserError
from loop.experiment import RunState, Stage
from loop.store.journal import Journal
from tests.bot.real_bot import Process, RealBot
from tests.bot.slack.test_http import FORM, SECRET, Slack
from tests.servers.ports import free_port
from tests.servers.slack_payloads import command
from tests.servers.slack_rules import pictures
from tests.servers.slack_server import SlackServer
from tests.servers.slack_workspace import APP_TOKEN, BOT_TOKEN, CHANNEL
from tests.servers.telegram_api import TOKEN, Chat, Post
from tests.servers.telegram_server import TelegramServer

ANN = 7


class World:
    """A bot's folder and the two platforms."""

    def __init__(self, folder: Path, telegram: TelegramServer, slack: SlackServer) -> None:
        self.telegram = telegram
        self.slack = slack
        self.bot = RealBot(
            folder,
            TELEGRAM_BOT_TOKEN=TOKEN,
            TELEGRAM_CHAT_IDS=str(ANN),
            TELEGRAM_BASE_URL=telegram.base_url,
            SLACK_BOT_TOKEN=BOT_TOKEN,
            SLACK_APP_TOKEN=APP_TOKEN,
            SLACK_BASE_URL=slack.base_url,
            SLACK_CHANNELS=CHANNEL,
            SLACK_USER_IDS="U0ALICE",
        )

    @asynccontextmanager
    async def running(self, *arguments: str) -> AsyncIterator[Process]:
        """The bot; it is ended as a service manager ends it."""
        with self.bot.start(*arguments) as process:
            try:
                yield process
                process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(process.wait, 60) == 0
            finally:
                process.kill()

    async def until(self, condition: Callable[[Journal], object]) -> None:
        """Wait for what the bot's state file has; the platforms answer meanwhile."""

        def holds() -> object:
            try:
                with closing(Journal(self.bot.home / "state.db", read_only=True)) as journal:
                    return condition(journal)
            except UserError:
                return False  # the bot has not made it yet

        while not holds():  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)

    def log(self) -> str:
        log = self.bot.home / "bot.log"
        return log.read_text() if log.exists() else ""

    async def post(self, condition: Callable[[Post], bool]) -> Post:
        """Wait for a message in the Telegram chat."""

        def found() -> list[Post]:
            return [post for post in self.telegram.api.posts if condition(post)]

        await self.telegram.api.until(lambda: bool(found()))
        return found()[0]

    async def said(self, text: str) -> Post:
        return await self.post(lambda post: text in post.text)

    async def slack_said(self, text: str) -> dict[str, object]:
        """Wait for a message in the Slack channel."""

        def found() -> list[dict[str, object]]:
            return [m for m in self.slack.workspace.shown() if text in str(m)]

        return (await self.slack.until(found))[0]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    telegram, slack = TelegramServer(), SlackServer()
    await telegram.start()
    await slack.start()
    world = World(tmp_path, telegram, slack)
    yield world
    await telegram.stop()
    await slack.stop()
    for process in psutil.process_iter(["environ"]):
        if (process.info["environ"] or {}).get("AUTORESEARCH_HOME") == str(world.bot.home):
            process.kill()


async def test_a_night_from_the_phone(world: World) -> None:
    gate = world.bot.folder / "gate"
    world.bot.environment["TORCH_GATE"] = str(gate)
    world.bot.forks = False  # its memory is looked at
    api = world.telegram.api
    async with world.running() as process:
        api.chats[666] = Chat(666)
        api.say("/start_run", user=666, chat=666)  # a stranger
        api.say("/start_run")
        plan = await world.said("Start run ")
        assert plan.buttons[0][0].endswith(" go")
        api.press(plan)
        await world.said("\nGoal: ")
        card = await world.post(lambda post: post.text.startswith("Run ") and "running" in post.text)
        await world.until(lambda journal: [e.stage for e in journal.undecided(1)] == [Stage.TRAINING])
        api.say("/status")
        await world.said("· step 1")
        await world.slack.open_home()
        home = await world.slack.until(world.slack.workspace.home)
        assert "running" in str(home["blocks"])
        assert [*pictures(home["blocks"])] == []  # there is no result yet, so no chart is drawn
        bot = psutil.Process(process.pid)
        assert bot.memory_info().rss < 90 * 2**20  # about 86 with the libraries of both platforms
        mapped = [part.path for part in bot.memory_maps()]
        assert not [path for path in mapped if "/torch/" in path or "/cryptography/" in path]
        gate.touch()
        digest = await world.said("Experiment #0: baseline\nval_bpb: 1.074000 (baseline)\nStatus: keep")
        assert digest.reply_to == card.id
        in_thread = await world.slack_said("val_bpb: 1.074000 (baseline)")
        assert in_thread["thread_ts"]

        api.say("/plot")
        picture = await world.post(lambda post: post.photo)
        assert picture.file is not None
        assert picture.file[1].startswith(b"\x89PNG")

        await world.slack.command("stop")
        question = await world.slack_said(" for good? Its branch")
        assert "/confirm " in str(question)
        api.say("/stop", date=int(time.time()))
        api.press(await world.said(" for good? Its branch"))
        await world.said("is stopped")
    assert all(post.chat == ANN for post in api.posts)
    assert world.bot.json("status")["state"] == "stopped"
    log = world.log()
    for secret in (TOKEN, BOT_TOKEN, APP_TOKEN):
        assert secret not in log
    assert "a stranger on telegram: user 666 in 666" in log
    assert "Telegram: connected as @lab_bot, 1 chat." in log
    assert "Slack: connected as @autoresearch in Lab, 1 channel." in log


async def test_the_loop_goes_on_while_no_platform_answers_and_tells_it_later(world: World) -> None:
    api = world.telegram.api
    await world.telegram.stop()
    await world.slack.stop()
    async with world.running("--tag", "toy", "--experiments", "2"):
        await world.until(lambda journal: [run.state for run in journal.runs()] == [RunState.DONE])
        await world.telegram.start()
        await world.slack.start()
        for number in range(3):
            await world.said(f"Experiment #{number}: ")
            await world.slack_said(f"Experiment #{number}: ")
        await world.said("Run toy is done")
        digests = [post.text.split(":")[0] for post in api.posts if post.text.startswith("Experiment #")]
        assert digests == [f"Experiment #{number}" for number in range(3)]


async def test_signed_requests_of_slack_are_answered(world: World) -> None:
    port = free_port()
    settings = {"SLACK_LISTEN": f"127.0.0.1:{port}", "SLACK_SIGNING_SECRET": SECRET, "SLACK_APP_TOKEN": ""}
    world.bot.environment |= settings | {"TELEGRAM_BOT_TOKEN": ""}
    world.bot.forks = False  # so that it imports of aiohttp what it comes to need, and no more
    async with world.running():
        while "Slack: listening for signed requests" not in world.log():  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
        asked = command("status", channel=CHANNEL, response_url=world.slack.response_url())
        assert await Slack(port).send(urlencode(asked).encode(), FORM) == (200, "")
