"""What is made ready while a training is under way: the next proposal, its kernels, a waiting Python.

`loop.engine` imports it, `bot` only what a proposer's failure is. Start at `prefetch.py`.
"""
