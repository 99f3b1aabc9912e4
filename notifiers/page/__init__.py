"""The report as one HTML file.

Start at `render.py`.
"""
