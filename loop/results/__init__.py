"""What came of a run: results.tsv, status, report, wake-up report, ledger of time, export, adoption.

It reads the store and changes no run under way. The engine, the proposers, `notifiers` and `bot` import it.
Start at `report.py`.
"""
