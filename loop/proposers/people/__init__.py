"""Ideas that people send with /idea or write into ideas.md.

Start at `constant_ideas.py`.
"""
