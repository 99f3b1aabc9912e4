"""The check every ten minutes: `probe.py` looks, `decide.py` decides, `heartbeat.py` acts on `bot.runs`.

Imported by `bot.app` alone. Start at `decide.py`, which is a pure function.
"""
