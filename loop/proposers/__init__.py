"""Where the next edit of `train.py` comes from.

Start at `protocol.py`, all that the engine sees, then `researcher.py`, which chooses among the sources.
"""
