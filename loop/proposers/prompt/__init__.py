"""What a model or an agent is told: the program, the history, papers, instructions.

Start at `briefing.py`.
"""
