"""Lanes: the places where one training at a time runs, and what may run there.

`loop.engine` and `bot` import it. Start at `protocol.py`, which says what an executor of trainings must do;
`local.py` finds the lanes of this machine.
"""
