"""Proposals that need no model: a search over the constants of `train.py`.

Start at `suggest.py`. numpy is imported only in the worker process.
"""
