"""The guard: what stands in a program that may make its number false, found before it costs GPU time.

The proposers and bot import it. Start at `examine.py`.
"""
