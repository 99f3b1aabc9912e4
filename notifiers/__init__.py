"""Messages to people, and how they are delivered.

It imports `loop`; only `bot` imports it. Start at `message.py`: `text/` makes messages from values,
`delivery/` sends what is due, `channels/` has the platforms.
"""
