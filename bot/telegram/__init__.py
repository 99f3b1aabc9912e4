"""The front end for Telegram: connection, what comes in, what is answered.

Start at `front.py`. Only `bot.chats` imports it.
"""
