"""The progress chart as a PNG, drawn by matplotlib in a process of its own.

`bot` and the page import it. Start at `chart.py`.
"""
