"""Processes and the machine: supervisor and trainer, the environment of a training, GPUs, disk, memory.

Start at `trainer.py`; `supervisor.py` is a program of its own that outlives the bot.
"""
