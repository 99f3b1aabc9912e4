"""The front end on this machine: a Unix socket, its client and the prompt in the terminal.

The rest of `bot` imports it. Start at `server.py`; `wire.py` defines what passes over the socket.
"""
