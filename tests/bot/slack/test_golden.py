"""What Slack shows beyond messages, as it reads."""

from __future__ import annotations

from bot.commands.access import AllowList, Role, Sender
from bot.slack.answers import menu, turned_away
from bot.slack.modals import idea_form, start_form
from notifiers.channels.slack_blocks import as_typed, render
from notifiers.message import Button, Message, Reply
from tests.bot.slack_bot import SlackBot, called
from tests.notifiers.golden import check
from tests.servers.slack_rules import as_read, form_as_read, pictures
from tests.servers.slack_server import SlackServer

VERBS = ("status", "start_run", "help")
CARD = Message(
    "Run mar12: running\nExperiment #12: halve batch size\nBest val_bpb: 0.986041 (-0.011859), #9",
    buttons=(
        (Button("Pause", "/pause"), Button("Skip", "/skip"), Button("Stop", "/stop")),
        (Button("Refresh", "/status"), Button("Plot", "/plot")),
    ),
)
PLAN = Message(
    "Start run mar13?\nRepository: /home/ann/nano\nBudget: at most 5 min per training",
    buttons=(
        (Button("Start", "/start_run mar13 go"), Button("Cancel", "/cancel")),
        (
            Button("Start: all", "/start_run mar13 all go"),
            Button("Start: digest", "/start_run mar13 off go"),
        ),
    ),
)


def listed(role: Role) -> str:
    return as_read(render(as_typed(menu(role), VERBS)).blocks)


def told(users: dict[str, Role | None], places: tuple[str, ...], sender: Sender) -> str:
    allowed = AllowList(users, dict.fromkeys(places), "SLACK_USER_IDS", "SLACK_CHANNELS")
    return as_read(turned_away(allowed, sender).blocks)


async def test_home_lists_and_forms_read_well(server: SlackServer, bot: SlackBot) -> None:
    bot.card = Reply(CARD)
    await server.open_home()
    await server.until(lambda: [*pictures(server.workspace.home().get("blocks", []))])
    await server.open_home(user="U0BOB")
    await server.until(lambda: server.workspace.home("U0BOB"))
    await server.command("diff 12")
    (seen,) = await called(server, "respond")
    eve, ann = Sender("slack", "U0EVE", "C0OTHER", "eve"), Sender("slack", "U0ANN", "C0OTHER", "ann")
    lists: dict[str, Role | None] = {"U0ANN": None, "U0BOB": Role.VIEWER, "U0CAT": Role.OPERATOR}
    check(
        "slack",
        {
            "Home of an operator": as_read(server.workspace.home()["blocks"]),
            "Home of a viewer": as_read(server.workspace.home("U0BOB")["blocks"]),
            "/autoresearch alone, for an operator": listed(Role.OPERATOR),
            "/autoresearch alone, for a viewer": listed(Role.VIEWER),
            "An answer that one person sees": as_read(seen["blocks"]),
            "A stranger": told(lists, ("C0RESEARCH",), eve),
            "A listed person in another channel": told(lists, ("C0RESEARCH",), ann),
            "Another channel, where no user is listed": told({}, ("C0RESEARCH", "C0LAB"), eve),
            "The form for an idea": form_as_read(idea_form("")),
            "Try this": form_as_read(idea_form("", "halve the batch size")),
            "The form for a run": form_as_read(start_form("", Reply(PLAN))),
            "A run that cannot be started": form_as_read(
                start_form("", Reply(Message("Not now: mar12 is active.")))
            ),
        },
    )
