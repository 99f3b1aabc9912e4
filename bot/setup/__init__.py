"""Settings, the checks of `doctor`, and what installs the bot: template, service unit, logs.

Imported by all of `bot`. Start at `settings.py`.
"""
