"""What the git of tests is told: apart from pytest, so that programs of tests need not import that."""

NO_MAINTENANCE = {
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "maintenance.auto",
    "GIT_CONFIG_VALUE_0": "false",
}
"""Else git starts another one after each commit; the bot's git never gets these."""
