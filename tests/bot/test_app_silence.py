"""The whole bot, as a process, on both platforms: who may only read, a chat that is mute or takes nothing."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from loop.experiment import Stage
from tests.bot.real_bot import TOY, gated, make_repository
from tests.bot.test_app_chats import World, world
from tests.copies import copy_of
from tests.servers.slack_server import Fault
from tests.servers.telegram_api import Chat

__all__ = ["world"]

BOB = 8
CRASHING = TOY.replace('print("---")', 'if os.path.exists(f"{gate}.crash"):\n    os._exit(3)\nprint("---")')
AN_HOUR_AGO = ("UPDATE events SET at = at - 3600", "UPDATE experiments SET decided_at = decided_at - 3600")


async def test_a_chat_that_is_mute_or_takes_nothing_loses_no_call_and_nothing_else(world: World) -> None:
    api, slack, bot = world.telegram.api, world.slack, world.bot
    api.chats[BOB] = Chat(BOB)
    copy_of(bot.folder / "crashing", make_repository, CRASHING, 60)
    bot.environment |= {
        "REPOSITORY": str(bot.folder / "crashing"),
        "TELEGRAM_CHAT_IDS": f"7,{BOB}:viewer",
        "SLACK_USER_IDS": "U0ALICE,U0BOB:viewer",
        "CRASH_STREAK": "2",
        "HEARTBEAT_MINUTES": "0.02",
    }
    gate = gated(bot)

    def heads_in(chat: int) -> list[str]:
        """The digests that a chat was told, by their number."""
        return [text.partition(":")[0] for text in api.texts(chat) if text.startswith("Experiment #")]

    async def in_slack(text: str) -> None:
        await slack.until(lambda: [call for call in slack.called("respond") if text in str(call["blocks"])])

    async with world.running():
        api.say("/start_run toy go")
        await world.slack_said("Run toy started")
        await world.until(lambda journal: [e.stage for e in journal.undecided(1)] == [Stage.TRAINING])

        bobs = await world.post(lambda post: post.chat == BOB and post.text.startswith("Run toy: running"))
        assert bobs.buttons == [["/status", "/plot"]]  # what he may press
        query = api.press(bobs, user=BOB, data="/pause")
        await api.until(lambda: query in api.answered)
        assert "operators" in api.answered[query]
        assert query in api.alerts  # for him alone
        await slack.command("pause", user="U0BOB")
        await in_slack("operators")
        assert not [text for text in (*api.texts(), *api.texts(BOB)) if "operators" in text]

        api.say("/notify mute 2h")
        await world.said("Muted until")
        await slack.command("notify mute 2h")
        await world.slack_said("Muted until")
        api.chats[BOB].blocked = True
        slack.fail("chat.postMessage", *[Fault(word="is_archived")] * 2)
        gate.touch()
        await world.until(lambda journal: journal.best(1))
        gate.with_suffix(".crash").touch()
        await world.said("Run toy needs you: ")
        await world.slack_said("Run toy needs you: ")  # once the channel takes messages again
        assert heads_in(7) == []
        assert not [
            each for each in slack.workspace.shown() if str(each.get("text")).startswith("Experiment #")
        ]

        api.say("/health")
        assert f"telegram:{BOB}: " in (await world.said("Health")).text
        api.chats[BOB].blocked = False
        told = await api.until(lambda: digests if len(digests := heads_in(BOB)) > 2 else [])
        assert told[:3] == [f"Experiment #{number}" for number in range(3)]

        with closing(sqlite3.connect(bot.home / "state.db", timeout=60)) as state, state:
            for statement in AN_HOUR_AGO:  # so long nobody answered the call
                state.execute(statement)
        await world.said("Run toy still needs you: ")
        await world.slack_said("Run toy still needs you: ")
    assert len([text for text in api.texts() if "still needs you" in text]) == 1
