"""Whether a module was imported, told without importing it."""

from __future__ import annotations

import sys
from typing import Any


def imported(name: str) -> Any:
    """Return a module that was imported to its end, None otherwise.

    ``sys.modules`` has a module from the moment when its import begins. Another thread that
    looks then finds one without most of its names. The import system itself goes by
    ``__spec__._initializing``, which is gone when the import has ended.
    """
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    return None if getattr(spec, "_initializing", False) else module
