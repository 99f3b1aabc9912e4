"""The state file: one SQLite database that is the truth about runs, experiments and events.

Start at `journal.py`. Imported by every package above; it imports the words of `loop.experiment` only.
"""
