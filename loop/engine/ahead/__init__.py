"""What is made ready while a training is under way: the next proposal, and a Python that waits for it.

`loop.engine` imports it, `bot` only what a proposer's failure is. Start at `prefetch.py`.
"""
