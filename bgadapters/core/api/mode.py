"""The mode in force, for gateways and shims."""

from __future__ import annotations

from bgadapters.core.model import mode as _mode


def mode() -> _mode.Serving:
    """Return how tasks run in this process now: as in a server, or as in a test."""
    return _mode.active
