"""Proposals from a coding agent that works on a checkout of its own.

Start at `coding_agent.py`.
"""
