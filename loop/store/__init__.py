"""The state file: one SQLite database that is the truth about runs, experiments and events.

All SQL of the project is here. It imports only the modules beside the packages of `loop`; everything above
may import it. Start at `journal.py`; `experiments.py` has what reports read, `events.py` the history,
`outbox.py` what channels were sent.
"""
