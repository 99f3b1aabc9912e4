"""The bot process: it hosts runs, takes commands from chats and keeps itself alive.

Start at `app.py`, which wires everything; `commands` has the table of commands and what each one does, and
`platforms.py` says which chat platforms there are.
Nothing outside of this package imports it.
"""
