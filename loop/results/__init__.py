"""What came of a run: results.tsv, status, report, wake-up report, ledger of time, export, adoption.

Start at `table.py` and `report.py`. It reads the store and writes files; it changes no state.
"""
