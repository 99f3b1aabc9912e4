"""What is sent on request or in the morning: the report on a run, its bundle, the health of bot and machine.

The handlers, the wiring and the command line import it. Start at `morning.py`.
"""
