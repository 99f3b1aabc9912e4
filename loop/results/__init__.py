"""What came of a run: results.tsv, status, report, ledger of time, constants, export, adoption.

It reads the store and changes no run under way. The engine, the proposers, `notifiers` and `bot` import it.
Start at `report.py`.
"""
