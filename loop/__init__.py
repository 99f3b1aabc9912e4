"""The research loop: runs, experiments, trainings, verdicts. It knows no chat and no command line.

Start at `experiment.py`, the words as dataclasses, then `engine/`. `bot` and `notifiers` import it.
"""
