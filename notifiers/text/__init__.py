"""Values to messages: every sentence about runs and experiments that people read is made here.

Start at `digest.py`. Pure functions.
"""
