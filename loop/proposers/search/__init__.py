"""Proposals that need no model: a search over the constants of `train.py`.

`bot` and the other proposers import it. Start at `suggest.py`; numpy is imported in the worker only.
"""
