"""What happens in the night of the gallery."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from bot.commands.access import HERE, Role
from bot.slack.modals import idea_form, start_form
from loop.experiment import Actor, Cost, EventKind, Family, Reason, RunState
from notifiers.channels.slack_blocks import Picture, as_typed
from notifiers.message import Message, Reply
from notifiers.text.status import RunPlan, start_card
from tests.gallery.night import BOB, Night, Section, open_night
from tests.gallery.screen import Way

OUT_OF_MEMORY = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of "
    "79.11 GiB of which 1.02 GiB is free."
)
LONG = (
    "replace the two-stage schedule by a single cosine with 3 % warm-up and 20 % cool-down, scale the "
    "embedding learning rate with the square root of the width, tie the value embeddings of every second "
    "layer and start the residual gates at 0.1 instead of 0.5, as the second paper on the list has it for 8"
)
NO_IDEAS = "The search has tried every change of one or two constants near the best program."
DIFF = "\n".join(
    [
        "diff --git a/train.py b/train.py",
        "index 3f1a2b4..9c0de11 100644",
        "--- a/train.py",
        "+++ b/train.py",
        *(
            line
            for number in range(1, 121)
            for line in (
                f"@@ -{10 * number},3 +{10 * number},3 @@",
                f" # part {number}",
                f"-WIDTH_{number} = {64 * number}  # <b>wide</b> & fast",
                f"+WIDTH_{number} = {96 * number}  # <b>wide</b> & fast",
            )
        ),
    ]
)
LOG = "\n".join(
    [
        *(
            f"step {step:05} ({step / 10:.1f}%) | loss: 3.{step:04} | dt: 320ms"
            for step in range(880, 920, 10)
        ),
        "Traceback (most recent call last):",
        '  File "train.py", line 412, in <module>',
        "    loss = model(x, y)",
        OUT_OF_MEMORY,
    ]
)
PLAN = RunPlan(
    tag="mar13",
    other_tag="mar13b",
    repository=Path("/home/ann/nano"),
    base_branch="main",
    base_commit="228791fb499afffb54b46200aca536f79142f117",
    subject="Use the value embeddings of every layer",
    device="NVIDIA H100 80GB HBM3",
    sandbox="bubblewrap, no network",
    budget=300.0,
    proposer="search",
    remarks=(
        "uncommitted, so not part of a run: changes of train.py",
        "TIME_BUDGET=60 is not used: the repository fixes 300 s",
    ),
)


async def record(folder: Path) -> list[Section]:
    """Live through the night in `folder` and return what was shown."""
    with open_night(folder, begins=datetime(2026, 3, 12, 22, 50, tzinfo=UTC)) as night:
        await _evening(night)
        await _odd_texts(night)
        await _troubles(night)
        await _away(night)
        await _morning(night)
        return night.sections


async def _evening(night: Night) -> None:
    await night.ask("A question before there is a run", "/status")
    night.show("What a new run would be", start_card(PLAN), "ann: /start_run")
    night.at("22:58")
    await night.start("mar12")
    await night.tell("A run starts")
    night.train("baseline")
    night.at("23:00")
    night.reach(40.0, step=376)
    await night.look("The card in the first training")
    await night.ask("The same, asked for", "/status")
    night.end(0.9979)
    await night.tell("The baseline")
    cost = Cost(input_tokens=21_000, cached_tokens=15_000, output_tokens=900, dollars=0.0231)
    night.experiment("halve batch size", 0.986041, family=Family.BATCH, cost=cost)
    await night.tell("A kept experiment")
    night.experiment("EMBEDDING_LR 0.6 → 0.8", 0.986912)
    await night.tell("A discarded one")
    night.experiment("depth 8 → 12", None, error=OUT_OF_MEMORY)
    await night.tell("A crash")
    night.train("random initial scale")
    night.at("23:24")
    night.reach(46.2, step=431)
    await night.look("The card later")
    await night.ask("And asked for", "/status")
    night.skip()
    await night.tell("A person skipped one")
    night.train("drop the unused gate", added=0, removed=7)
    night.set_state(RunState.PAUSING)
    await night.look("The card while it pauses")
    night.end(0.986041)
    night.set_state(RunState.PAUSED)
    await night.tell("An equal one from less code, and the pause")
    await night.look("The card in the pause")
    night.at("23:40")
    night.set_state(RunState.RUNNING)
    await night.tell("It goes on")


async def _odd_texts(night: Night) -> None:
    night.experiment("use <b>bold</b> init & <script>alert(1)</script>", 0.985102)
    await night.tell("HTML in a description")
    night.experiment("ask <!channel> & <@U024BE7LH> about *this* `code` :tada:", 0.9871)
    await night.tell("Slack's own signs in a description")
    night.experiment("学習率を 0.04 に下げ、埋め込みを広げる", 0.984977)
    await night.tell("Japanese")
    night.experiment(LONG, 0.984977, added=41)
    await night.tell("A description of 300 characters")


async def _troubles(night: Night) -> None:
    night.train("rotary base 10k → 200k")
    night.vanish()
    await night.tell("The machine was switched off and on")
    night.end(0.985)
    night.note(EventKind.RUN_RECOVERED, "its loop had ended with: database is locked")
    await night.tell("Trained again, and something that recovered by itself")
    for number, title in enumerate(
        ("The first crash of several rings", "The second does not", "Nor does the third", "Four", "Five")
    ):
        night.experiment(f"depth 8 → {16 + number}", None, error=OUT_OF_MEMORY)
        await night.tell(title)
    night.note(EventKind.NEEDS_ATTENTION, f"5 experiments crashed in a row, the last with: {OUT_OF_MEMORY}")
    await night.tell("It needs a person")


async def _away(night: Night) -> None:
    night.at("01:30")
    for number in range(23):
        value = 0.9838 - number / 10_000 if number in (7, 19) else 0.9877
        night.experiment(f"idea {number} of the outage", value)
    night.at("03:45")
    await night.tell("After two hours without a network")
    await night.ask("Quiet hours are ordered", "/notify quiet 03:45-06:40 UTC")
    for number in range(30):
        night.experiment(f"idea {number} of the quiet hours", 0.9815 if number == 11 else 0.99)
        await night.hear()
    night.note(EventKind.NEEDS_ATTENTION, f"no idea for the next experiment after 5 tries: {NO_IDEAS}")
    await night.tell("What only a person can help with comes through at night")
    night.at("06:40")
    await night.tell("The end of the quiet hours")
    await night.ask("Several in one message", "/notify every 3")
    for number in range(3):
        night.experiment(f"idea {number} before breakfast", 0.9811 if number == 1 else 0.983)
    await night.tell("Three in one message")


async def _morning(night: Night) -> None:
    night.at("07:00")
    night.wake_up()
    await night.tell("The report of the morning")
    night.at("07:05")
    night.retag("wide")
    night.wish("read the <second> paper & do what it says")
    await night.tell("Another name")
    for title, text in (
        ("The same, asked for", "/summary"),
        ("The last results", "/results"),
        ("The best", "/best"),
        ("Nothing like it again", "/never 3"),
        ("More like it", "/more 5"),
        ("What waits and what was learned", "/ideas"),
        ("Taken back", "/never 3 off"),
        ("All runs", "/runs"),
        ("The chart", "/plot"),
        ("What this chat is told", "/notify"),
        ("Who am I", "/id"),
        ("Help", "/help"),
        ("Help about one", "/help pause"),
        ("A slip of the finger", "/statsu"),
        ("A wrong argument", "/diff twelve"),
        ("No such experiment", "/diff 999"),
        ("A wish that is not understood", "/notify loud"),
        ("Is it meant?", "/stop"),
        ("It is not", "/cancel"),
    ):
        await night.ask(title, text)
    await night.ask("Bob has read-only access", "/stop", by=BOB)
    await night.ask("A command that comes too late", "/stop", seconds_ago=3 * 3600)
    await night.ask("The chart at the terminal", "/plot", by=HERE)
    night.show("A long diff", Message("Experiment #12: depth 8 → 16", DIFF), "ann: /diff 12")
    night.show("A log", Message("End of the log of experiment #12", LOG), "ann: /log 12")
    night.report("The report at the terminal")
    await night.home("The app's Home tab", Role.OPERATOR, Picture("F1", "the chart"))
    await night.home("Bob's, who has read-only access", Role.VIEWER)
    night.view("The form for an idea", Way.FORM, idea_form(""))
    night.view(
        "Try this, in the menu of a message", Way.FORM, idea_form("", "a <b>cosine</b> schedule & warm-up")
    )
    night.view(
        "The form for a run",
        Way.FORM,
        start_form("", Reply(as_typed(start_card(PLAN), ("start_run", "notify")))),
    )
    night.set_state(RunState.DONE, Reason(Actor.LOOP, facts={"made": 70}))
    await night.tell("The end")
    night.set_state(RunState.STOPPED)
    await night.tell("And for good")
    await night.look("The last of the card")
