"""A run under way and its lanes: propose, commit, train, measure, evaluate, decide.

Start at `lane.py`, which takes one experiment from stage to stage; `run.py` has what its lanes share. It may
import everything in `loop`; only `bot` imports it.
"""
