"""A run under way and its lanes: propose, commit, train, measure, evaluate, decide.

Only `bot` imports it; it may import all of `loop`. Start at `lane.py`, which takes one experiment from
stage to stage; `run.py` has what the lanes of a run share.
"""
