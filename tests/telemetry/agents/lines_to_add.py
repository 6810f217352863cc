"""What an application adds for its agent to see our tasks: the recipes of the documentation."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

RECIPES = {
    "datadog": "datadog.DatadogSpan",
    "newrelic": "new_relic.NewRelicTask",
    "elastic": "elastic.ElasticTransaction",
}


def middlewares() -> list[Any]:
    """The setting ``task_middleware``; none unless it is asked for."""
    agent = os.environ["AGENT"]
    if not os.environ.get("AGENT_WITH") or agent not in RECIPES:
        return []
    sys.path.insert(0, str(Path(__file__).parents[3] / "docs/snippets"))
    module, _, name = RECIPES[agent].partition(".")
    return [getattr(importlib.import_module(f"recipes.{module}"), name)()]
