"""Where messages go: Telegram, Slack, Apprise, experiment trackers.

`bot` makes them. Start at `notifiers/message.py`, the protocol that each of them implements.
"""
