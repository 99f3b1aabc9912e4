"""The front end on this machine: a Unix socket, its client and the prompt in the terminal.

Start at `server.py`; `wire.py` is what passes over the socket.
"""
