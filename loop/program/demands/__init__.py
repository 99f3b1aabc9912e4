"""What a program computes from its constants and demands of them, read from its text without running it.

Start with `requirements.py`; `expressions.py` evaluates.
"""
