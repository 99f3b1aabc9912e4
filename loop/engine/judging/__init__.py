"""How numbers are judged: repeats and evaluations of a program, verdicts, and how a person takes one back.

The engine imports it, and nobody else. Start at `verdicts.py`.
"""
