"""Settings, the checks of `autoresearch doctor` with those of trainings, and what is installed: the template,
the service unit.

The rest of `bot` imports it. Start at `settings.py`.
"""
