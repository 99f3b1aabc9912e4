"""The progress chart as a PNG, drawn by matplotlib in a process of its own.

Start at `chart.py`.
"""
