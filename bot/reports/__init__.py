"""What people are sent of a run: the report, and the bundle for a pull request.

The handlers, the wiring and the command line import it.
"""
