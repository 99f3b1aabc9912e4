"""Whether a number can be believed: what a program looks like, what its model is worth, what repeats say.

It imports store, git, process, sandbox, program and the modules beside the packages of `loop`; the engine,
the proposers and bot import it. Start at `guard`.
"""
