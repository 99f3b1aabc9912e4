"""The state file: one SQLite database that is the truth about runs, experiments and events.

All SQL of the project is here. Start at `journal.py`; `experiments.py` has what reports read, `events.py`
the history, `outbox.py` what channels were sent. It imports the modules beside the packages only.
"""
