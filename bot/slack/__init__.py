"""The front end for Slack. This is its entry in `bot.platforms`; `front.py` takes commands and answers.

slack_bolt is imported only where a token is set. `manifest.py` makes the app.
"""

from __future__ import annotations

from bot.access import AllowList
from bot.commands import COMMANDS
from bot.front import Answer, Connection, Platform, require_token
from bot.setup.settings import Settings
from notifiers.delivery.rate_limit import Clock, slack_spacing


def _allowed(settings: Settings) -> AllowList:
    users, channels = settings.slack_user_ids, settings.slack_channels
    return AllowList(
        users, channels, "SLACK_USER_IDS", "SLACK_CHANNELS", lambda sender: sender.place.startswith("D")
    )


def _connect(settings: Settings, answer: Answer, clock: Clock) -> Connection | None:
    token = settings.slack_bot_token.get_secret_value()
    if not token:
        return None
    from bot.slack.front import SlackFront
    from notifiers.channels.slack import SlackChannel, make_client

    app_token = settings.slack_app_token.get_secret_value()
    require_token(token, "SLACK_BOT_TOKEN", begins="xox.-")
    if app_token:
        require_token(app_token, "SLACK_APP_TOKEN", begins="xapp-")
    client = make_client(token, settings.slack_base_url)
    verbs = [command.name for command in COMMANDS if not command.hidden]
    front = SlackFront(
        client=client,
        answer=answer,
        app_token=app_token,
        signing_secret=settings.slack_signing_secret.get_secret_value(),
        listen=settings.slack_listen,
        verbs=verbs,
    )
    channels = [
        (SlackChannel(client=client, channel_id=place, verbs=verbs), slack_spacing(clock=clock))
        for place in settings.slack_channels
    ]
    return Connection(front.run, front.health, channels)


SLACK = Platform("slack", _allowed, _connect)
