"""Whether Telegram and Slack let the bot in and take its messages, for `up`, `doctor` and `/health`.

Nothing is sent. Telegram shows for a moment that the bot types; Slack is asked for a channel's last message.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from bot.setup.doctor import Check
from loop.text import one_line
from notifiers.message import ChannelError, RateLimitedError, RefusedError
from notifiers.text.words import plural, some

if TYPE_CHECKING:
    from slack_sdk.web.async_client import AsyncWebClient
    from telegram import Bot

    from notifiers.channels.telegram import TelegramChannel

PATIENCE = 4.0  # seconds for each answer: a slow network is a warning, and no reason to wait

_T = TypeVar("_T")
_LIBRARY = re.compile(r"^httpx\.\w+: (.*)$|^no answer from Slack \((.*?)(?: ssl:.*)?\)$")
"""What the libraries put around why there was no connection."""

# Words of the Bot API's refusals, and what to do about them. {bot} is @name, {setting} what lists the chat.
_PERSON_FIXES = {
    "chat not found": "Open @{bot} in Telegram and press START; or correct {setting}: /id shows the id.",
    "blocked": "Unblock @{bot} in Telegram, or remove the chat from {setting}.",
}
_GROUP_FIXES = {
    "chat not found": "Add @{bot} to the group; or correct {setting}: /id sent there shows the id.",
    "kicked": "Add @{bot} to the group again, or remove it from {setting}.",
    "not a member": "Add @{bot} to the group, or remove it from {setting}.",
    "thread not found": "The topic was deleted: correct {setting}. Messages go to the group itself.",
    "rights": "Allow @{bot} to write in the group.",
    "write": "Allow @{bot} to write in the group.",
}


async def check_telegram(bot: Bot, channels: Sequence[TelegramChannel], setting: str) -> list[Check]:
    """Ask Telegram who the bot is, and whether each chat takes its messages; `setting` lists the chats.

    The channels learn which groups have other ids by now, and which topics are gone.
    """
    from telegram.error import InvalidToken, TelegramError

    try:
        me = await _soon(bot.get_me())
    except InvalidToken:  # its text may have the token in it
        fix = "Set it to the token that @BotFather shows for the bot."
        return [Check("Telegram", False, "does not accept TELEGRAM_BOT_TOKEN", fix)]
    except (TimeoutError, TelegramError) as error:
        return [_unreached("Telegram", bot.base_url, error)]
    name = str(me.username)
    trouble = await asyncio.gather(*(_telegram_chat(channel, name, setting) for channel in channels))
    fix = f"Send /id to @{name}: the answer has the line for .env."
    return _summed_up("Telegram", f"connected as @{name}", "chat", trouble, fix)


async def _telegram_chat(channel: TelegramChannel, bot: str, setting: str) -> Check | None:
    try:
        await _soon(channel.check())
    except RefusedError as error:
        reason = str(error).removeprefix("Bad Request: ").removeprefix("Forbidden: ")
        fixes = _GROUP_FIXES if channel.name.startswith("telegram:-") else _PERSON_FIXES
        fix = next((fix for sign, fix in fixes.items() if sign in reason.lower()), "Correct {setting}.")
        return Check(channel.name, False, reason, fix.format(bot=bot, setting=setting))
    except (TimeoutError, ChannelError) as error:
        return _unchecked(channel.name, error)
    return None


async def check_slack(
    client: AsyncWebClient, *, app_token: str, channels: Collection[str], scopes: Collection[str]
) -> list[Check]:
    """Ask Slack who the bot is, which of `scopes` it has, and whether each channel is open to it.

    With an `app_token` that is tried too: Slack limits how often.
    """
    from notifiers.channels.slack import SlackRefusedError, slack_errors

    try:
        with slack_errors():
            me = await _soon(client.auth_test())
    except SlackRefusedError as error:
        fix = 'Set it to the bot token (xoxb-…) that "OAuth & Permissions" shows.'
        return [Check("Slack", False, f"does not accept SLACK_BOT_TOKEN ({error.word})", fix)]
    except (TimeoutError, ChannelError) as error:
        return [_unreached("Slack", client.base_url, error)]
    granted = str(me.headers.get("x-oauth-scopes") or "")
    has = [scope.strip() for scope in granted.split(",")] if granted else scopes
    lacking = [_scopes(scopes, has), await _app_token(client, app_token) if app_token else None]
    trouble = await asyncio.gather(*(_slack_channel(client, name, has) for name in channels))
    team = f" in {me['team']}" if me.get("team") else ""
    detail = f"connected as @{me.get('user') or me['user_id']}{team}"
    checks = _summed_up("Slack", detail, "channel", trouble, "Set SLACK_CHANNELS=C… to get messages.")
    return [*checks, *filter(None, lacking)]


def _scopes(wanted: Collection[str], has: Collection[str]) -> Check | None:
    missing = [scope for scope in wanted if scope not in has]
    if not missing:
        return None
    fix = 'Add them at "OAuth & Permissions" and install the app again.'
    severe = "chat:write" in missing
    return Check("Slack scopes", False if severe else None, f"missing: {some(missing, 'scope')}", fix)


async def _app_token(client: AsyncWebClient, token: str) -> Check | None:
    def refusal(word: str) -> Check:
        fix = 'Set it to an app-level token (xapp-…) with the scope connections:write: "Basic Information".'
        return Check(name, False, f"Slack does not accept SLACK_APP_TOKEN ({word})", fix)

    name = "Slack commands"
    return await _ask_slack(name, client.apps_connections_open(app_token=token), refusal)


async def _slack_channel(client: AsyncWebClient, channel: str, has: Collection[str]) -> Check | None:
    name = f"slack:{channel}"
    asking = client.conversations_history(channel=channel, limit=1)
    return await _ask_slack(name, asking, partial(_slack_refusal, name, has))


async def _ask_slack(
    name: str, asking: Awaitable[object], refusal: Callable[[str], Check | None]
) -> Check | None:
    from notifiers.channels.slack import SlackRefusedError, slack_errors

    try:
        with slack_errors():
            await _soon(asking)
    except SlackRefusedError as error:
        return refusal(error.word)
    except (TimeoutError, ChannelError) as error:
        return _unchecked(name, error)
    return None


def _slack_refusal(name: str, has: Collection[str], word: str) -> Check | None:
    match word:
        case "not_in_channel" if "channels:join" in has:
            return None  # it joins with its first message
        case "missing_scope":
            return None  # of reading, which writing does not need; the scopes have a line of their own
        case "not_in_channel":
            return Check(name, False, word, "Type /invite @autoresearch in the channel.")
        case "channel_not_found":
            fix = "Give the channel's id (C…) in SLACK_CHANNELS; if it is private, invite the bot first."
            return Check(name, False, word, fix)
    return Check(name, False, word, "Correct SLACK_CHANNELS.")


async def _soon(answer: Awaitable[_T]) -> _T:
    async with asyncio.timeout(PATIENCE):
        return await answer


def _summed_up(name: str, detail: str, place: str, trouble: Sequence[Check | None], fix: str) -> list[Check]:
    bad = [check for check in trouble if check is not None]
    if not trouble:
        return [Check(name, None, f"{detail}; no {place} is listed", fix)]
    count = plural(len(trouble), place)
    well = f"{len(trouble) - len(bad)} of {count}" if bad else count
    return [Check(name, True, f"{detail}, {well}"), *bad]


def _unreached(name: str, url: str, error: Exception) -> Check:
    host = urlsplit(url).netloc.rpartition("@")[2]
    fix = "Check the network, and HTTPS_PROXY if you need one; the bot goes on trying."
    reason = _LIBRARY.sub(r"\1\2", _reason(error))
    return Check(name, None, f"{host} cannot be reached ({reason})", fix)


def _unchecked(name: str, error: Exception) -> Check | None:
    if isinstance(error, RateLimitedError):
        return None
    return Check(name, None, f"not checked ({_reason(error)})")


def _reason(error: Exception) -> str:
    return (
        f"no answer within {PATIENCE:g} s" if isinstance(error, TimeoutError) else one_line(str(error), 120)
    )
