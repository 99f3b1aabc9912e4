"""The tables of the state file: what their columns hold, and how older files are brought up to date.

Only `loop.store` imports it.
"""
