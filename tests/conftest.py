"""What holds for all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Two busy cores can make any single example slow; how long the whole takes is pytest-timeout's business.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")
