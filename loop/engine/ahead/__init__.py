"""A Python that waits for the next training, with its packages imported, while another one is under way.

Only `loop.engine` imports it. Start at `waiting.py`.
"""
