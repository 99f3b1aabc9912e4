"""A run under way: propose, commit, train, measure, decide.

Start at `engine.py`. It may import everything in `loop`; only `bot` imports it.
"""
