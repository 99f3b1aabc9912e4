"""The command line `autoresearch`: one function a command, everything heavy imported when it is called.

Start at `main.py`. Nothing imports this package.
"""
