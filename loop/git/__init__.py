"""Git: the worktree, branch and refs of a run, the files of its trainings, and what a repository offers.

The engine, the proposers, the results and `bot` import it. Start at `workspace.py`; `commands.py` is the only
place that starts git.
"""
