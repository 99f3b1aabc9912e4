"""The bot's one exception for people."""


class BotError(Exception):
    """Something a person must know, as one sentence that names the thing and the mend."""
