"""Engines: where tasks may be sent, and what the author of another engine needs."""

from bgadapters.adapters import (
    Ability,
    Engine,
    EngineUnavailableError,
    KeyIsTaken,
    Message,
    RefusedError,
    RetryLater,
    Run,
    RunningEngine,
    SentByCommit,
)

__all__ = [
    "Ability",
    "Engine",
    "EngineUnavailableError",
    "KeyIsTaken",
    "Message",
    "RefusedError",
    "RetryLater",
    "Run",
    "RunningEngine",
    "SentByCommit",
]
