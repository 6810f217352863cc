"""What users should know about each server: the hand-written part of docs/hosts.md."""

from __future__ import annotations

NOTES: dict[str, str] = {}
