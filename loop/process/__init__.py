"""Processes and the machine: a training's supervisor, environment and log, GPUs, disk, memory, the worker.

It imports only the modules beside the packages of `loop`; everything above may import it. Start at
`trainer.py`; `supervisor.py` is a program of its own that outlives the bot.
"""
