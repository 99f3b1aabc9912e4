"""What people are told and how it reaches them.

Start at `message.py`; `text/` makes messages from values, `delivery/` sends what is due, `channels/` are the
platforms. Imported by `bot` only; imports `loop`.
"""
