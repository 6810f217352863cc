"""Procrastinate: tasks become jobs in a table of PostgreSQL. The extra ``procrastinate``."""

from bgadapters.engines.procrastinate.engine import ProcrastinateEngine

__all__ = ["ProcrastinateEngine"]
