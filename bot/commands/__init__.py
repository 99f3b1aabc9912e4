"""The commands of the bot: which there are, who may give them, and what each does.

`bot` and the front ends import it. Start at `table.py`.
"""
