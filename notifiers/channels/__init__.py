"""Where messages go: Telegram, Slack, Apprise, experiment trackers.

Start at `notifiers/channel.py`, the protocol that each of these fulfils.
"""
