"""Git: the worktree, branch and refs of a run, and what is read from a repository.

Start at `workspace.py`; `commands.py` is the only place that starts git.
"""
