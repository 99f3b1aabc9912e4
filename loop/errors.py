"""The one exception whose text is for people."""


class UserError(Exception):
    """Something a person must know, as one sentence with its cause and its fix."""
