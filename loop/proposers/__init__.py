"""Where the next edit of `train.py` comes from: people, the search, models, coding agents.

The engine and `bot` import it. Start at `protocol.py`, all that the engine sees, then `researcher.py`,
which chooses among the sources.
"""
