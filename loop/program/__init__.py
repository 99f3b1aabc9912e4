"""`train.py` as text: its constants, seed, edits and fingerprint. Pure functions that touch no file.

It imports only the modules beside the packages of `loop`; everything above may import it. Start at
`constants.py`.
"""
