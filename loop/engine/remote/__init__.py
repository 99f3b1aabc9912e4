"""How a run trains on the nodes of a cluster: the same as on this machine, but for where the folder is.

`loop.engine` imports it. Start at `trainings.py`; what a node does is in `loop/lanes/node.py`.
"""
