"""The loop's one exception for people."""


class LoopError(Exception):
    """Something a person must know, as one sentence that names the thing and the mend."""
