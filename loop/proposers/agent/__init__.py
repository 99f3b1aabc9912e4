"""Proposals from a coding agent that works on a checkout of its own, in a process of its own.

`bot` puts it into a researcher. Start at `coding_agent.py`.
"""
