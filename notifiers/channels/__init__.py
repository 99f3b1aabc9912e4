"""Where messages go: Telegram, Slack, Apprise, experiment trackers.

`bot` makes them. Start at `notifiers/channel.py`, the protocol that each of them implements.
"""
