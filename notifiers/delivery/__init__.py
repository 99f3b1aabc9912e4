"""From an event in the journal to a message sent: preferences, rate limits, live cards.

Only `bot` imports it. Start at `delivery.py`.
"""
