"""Lanes: the places where one training at a time runs, and what may run there.

`loop.engine` and `bot` import it. Start at `protocol.py`, which says what an executor of trainings must do;
`local.py` finds the lanes of this machine, `cache.py` makes the folders of trainings. Of a Ray cluster
`cluster.py` is the bot's side, `ray_client.py` the process that is connected, `node.py` what an actor does on
its node; CLUSTERS.md says how to get one.
"""
