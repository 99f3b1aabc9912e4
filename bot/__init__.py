"""The bot process: it hosts runs, takes commands from chats and keeps itself alive.

Start at `app.py`, which wires everything; `commands.py` is the table of commands, `handlers.py` says
what each one does and `platforms.py` which chat platforms there are.
Nothing outside of this package imports it.
"""
