"""What a training may see and do, and the proof that it holds: bubblewrap, else Landlock, else nothing.

It imports only the modules beside the packages of `loop`; engine and bot import it. Start at `view.py`.
`landlock.py` and `probe.py` are programs of their own that run alone.
"""
