"""Every message that a night of twelve experiments is told in, on both platforms: one for one thing."""

from __future__ import annotations

import time

from loop.experiment import RunState, Stage
from tests.bot.test_app_chats import World, world

__all__ = ["world"]

DIGESTS = [f"Experiment #{number}" for number in range(3, 13)]


def heads(texts: list[str]) -> list[str]:
    """Return how messages begin, the card left out, which is one for the whole night."""
    lines = [text.splitlines()[0] for text in texts if "\nupdated " not in text]
    return [line.partition(":")[0] if "xperiment #" in line else line for line in lines]


async def test_a_night_is_told_once_in_each_place(world: World) -> None:
    gate = world.bot.folder / "gate"
    world.bot.environment |= {"TORCH_GATE": str(gate), "EXPERIMENTS": "11"}
    api = world.telegram.api

    def in_slack() -> list[str]:
        return [str(message.get("text", "")) for message in world.slack.workspace.shown()]

    async def until(number: int) -> None:
        await world.until(
            lambda journal: [(e.number, e.stage) for e in journal.undecided(1)] == [(number, Stage.TRAINING)]
        )

    async with world.running():
        api.say("/start_run night go")
        await until(0)
        await world.said("Run night started")
        await world.slack_said("Run night started")
        await world.slack.command("retag night toy")
        await world.said("Run night is now toy")
        await world.slack_said("Run night is now toy")
        api.say("/pause")
        await world.said("Run toy pauses after")
        gate.touch()
        await world.until(lambda journal: journal.runs()[0].state is RunState.PAUSED)
        await world.slack_said("Run toy paused by")
        gate.unlink()
        api.say("/resume")
        await world.said("Run toy continues")
        await until(1)
        api.say("/idea WIDTH 100")
        await world.said("Idea #1 is queued")
        api.say("/skip", date=int(time.time()))
        await world.said("Skipping experiment #1")
        await until(2)
        gate.touch()
        await world.said("Run toy is done")
        await world.slack_said("Run toy is done")
        idea = next(post for post in api.posts if post.text.startswith("Experiment #2: "))
    assert heads(api.texts()) == [
        "Run night started",
        "Run night is now toy",
        "Run toy pauses after the current experiment. /pause now ends it at once.",
        "Experiment #0",
        "Run toy continues.",
        "Idea #1 is queued (next): WIDTH 100",
        "Skipping experiment #1",
        "Experiment #2",
        *DIGESTS,
        "Run toy is done: 11 experiments completed",
    ]
    assert idea.reply_to
    assert heads(in_slack()) == [
        "Run night started",
        "Run night is now toy",
        "Experiment #0",
        "Run toy paused by Ada No. 7",
        "Run toy resumed by Ada No. 7",
        "Experiment #1",
        "Experiment #2",
        *DIGESTS,
        "Run toy is done: 11 experiments completed",
    ]
    for texts in (api.texts(), in_slack()):
        assert len([text for text in texts if "\nupdated " in text]) == 1
