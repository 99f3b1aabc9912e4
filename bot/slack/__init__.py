"""The front end for Slack: connection, what comes in, what is answered, the app manifest.

Start at `front.py`. Only `bot.chats` and the command line import it.
"""
