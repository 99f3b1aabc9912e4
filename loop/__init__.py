"""The research loop: runs, experiments, trainings, verdicts. It knows no chat and no command line.

`bot` and `notifiers` import it. Start at `experiment.py`, the vocabulary as dataclasses, then `engine/`.
"""
