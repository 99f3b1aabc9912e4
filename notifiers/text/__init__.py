"""From values to messages: every sentence about runs and experiments that people read.

Pure functions; `bot` and the rest of `notifiers` import them. Start at `digest.py`.
"""
