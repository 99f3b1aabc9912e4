"""What a training printed, read as hostile text: its end, its progress and loss, its numbers, why it failed.

It imports only the worker of `loop.process`; everything in `loop` may import it. Start at `summary.py`.
"""
