"""`train.py` as text: its constants, edits of it, fingerprints. Pure functions, no files.

Start at `constants.py`.
"""
