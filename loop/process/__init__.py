"""Processes: a training's supervisor and environment, programs that end with the bot, the worker.

It imports only the modules beside the packages of `loop`; everything above may import it. Start at
`trainer.py`, whose trainings outlive the bot (`supervisor.py` is their program); what ends with the bot is
started by `programs.py`, with `together.py` beside it, and a function of ours by `worker.py`.
"""
