"""Procrastinate: tasks become jobs in a table of PostgreSQL. The extra ``procrastinate``."""

from bgadapters.adapters import explain_missing

try:
    from bgadapters.engines.procrastinate.engine import ProcrastinateEngine
except ModuleNotFoundError as missing:
    explain_missing(
        missing,
        "procrastinate",
        "ProcrastinateEngine needs it: pip install 'bgadapters[procrastinate]'.",
    )
    raise

__all__ = ["ProcrastinateEngine"]
