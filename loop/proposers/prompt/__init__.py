"""The prompt for a model or an agent: the program, the history, papers, instructions.

The other proposers import it. Start at `briefing.py`.
"""
