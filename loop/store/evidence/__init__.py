"""What speaks for a number beside the number, in the journal: repeats, evaluations, verdicts, certifications.

What may import `loop.store` may import this. Start at `repeats.py`.
"""
