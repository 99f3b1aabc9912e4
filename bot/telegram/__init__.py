"""The front end for Telegram. This is its entry in `bot.platforms`; start at `front.py`.

python-telegram-bot is imported only where a token is set.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from bot.chat_checks import check_telegram
from bot.commands.access import Access, AllowList, Sender
from bot.front import Answer, Connection, Platform, instead, require_token
from bot.setup.doctor import Check
from bot.setup.settings import Settings
from notifiers.delivery.rate_limit import Clock, Spacing, all_telegram_chats, telegram_spacing


def _allowed(settings: Settings) -> AllowList:
    users, chats = settings.telegram_user_ids, settings.telegram_chat_ids
    return AllowList(users, chats, "TELEGRAM_USER_IDS", "TELEGRAM_CHAT_IDS")


def _connect(settings: Settings, answer: Answer, access: Access, clock: Clock) -> Connection | None:
    token = settings.telegram_bot_token.get_secret_value()
    if not token:
        return None
    # httpx brings a command line along and python-telegram-bot a web server and what Telegram's passports are
    # deciphered with: 14 MB of which nothing is used.
    with instead({"httpx._main": None, "cryptography": None, "tornado": None}):
        from bot.telegram.connection import Webhook
        from bot.telegram.front import TelegramFront
        from notifiers.channels.telegram import ForumChannel, TelegramChannel
        from notifiers.channels.telegram_places import Places
        from notifiers.channels.telegram_wire import make_bot

    require_token(token, "TELEGRAM_BOT_TOKEN", begins=r"\d+:", example="123:abc…")
    bot = make_bot(token, settings.telegram_base_url)
    webhook = None
    if settings.telegram_webhook_url and settings.telegram_webhook_listen:
        host, port = settings.telegram_webhook_listen
        secret = settings.telegram_webhook_secret.get_secret_value()
        webhook = Webhook(settings.telegram_webhook_url, secret, host, port)
    listed = settings.telegram_chat_ids or settings.telegram_user_ids
    places, everywhere = Places(listed), all_telegram_chats()

    def channel_to(place: str) -> tuple[TelegramChannel, Spacing]:
        chat, _, topic = place.partition("/")
        is_forum = settings.telegram_topics == "run" and int(chat) < 0 and not topic
        channel = (ForumChannel if is_forum else TelegramChannel)(
            bot=bot, chat_id=int(chat), topic_id=int(topic) if topic else None, places=places
        )
        return channel, telegram_spacing(everywhere, group=int(chat) < 0, clock=clock)

    def reach(sender: Sender) -> tuple[TelegramChannel, Spacing]:
        places.add(sender.spot)
        channels.append(channel_to(sender.spot))
        return channels[-1]

    channels = [channel_to(place) for place in told_places(listed)]
    front = TelegramFront(
        bot=bot,
        answer=answer,
        places=places,
        role_of=access.role_of,
        keyboard=settings.telegram_keyboard == "on",
        locks=Path.home() / ".cache" / "autoresearch" / "locks",  # for all state directories
        webhook=webhook,
    )
    setting = "TELEGRAM_CHAT_IDS" if settings.telegram_chat_ids else "TELEGRAM_USER_IDS"

    async def check(alone: bool) -> Sequence[Check]:
        del alone  # it does not matter
        return await check_telegram(bot, [channel for channel, _ in channels], setting)

    return Connection(front.run, front.health, channels, check, bot.request.shutdown, reach)


def told_places(places: Collection[str]) -> list[str]:
    """Return where messages go: of a group that is listed beside one of its topics, to the topic alone."""
    return [place for place in places if not any(other.startswith(f"{place}/") for other in places)]


TELEGRAM = Platform("telegram", _allowed, _connect, pairs=True)
