"""The check every ten minutes: `probe.py` looks, `decide.py` decides, `heartbeat.py` acts.

Imported by `bot.app` and `bot.runs`. Start at `decide.py`, which is a pure function.
"""
