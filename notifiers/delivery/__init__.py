"""From an event in the journal to a message sent: outbox, preferences, rate limits, live cards.

Start at `delivery.py`.
"""
