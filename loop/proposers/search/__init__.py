"""Proposals that need no model: a search over the constants of `train.py`.

Start at `suggest.py`. Functions that import numpy run in the worker process only.
"""
